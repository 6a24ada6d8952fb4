// Goal: an engine and the seats of other nodes become one group in any order of start, one life at
// a time, and everybody learns when it is over.
// Method: the rules one by one; then both machines over a network that delays, repeats and loses,
// with lives that end at random: one seed is one history.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/random.h"
#include "engine_core/span/group_host.h"
#include "engine_core/span/group_seat.h"

namespace trireme::engine {
namespace {

using std::chrono::milliseconds;
constexpr Duration kLease = milliseconds(3000);

GroupHost host_of(uint64_t life, uint32_t first = 2, uint32_t end = 4) {
  return GroupHost({.plan = {.group = Incarnation{life},
                             .steps_endpoint = "tcp://10.0.0.1:1",
                             .results_endpoint = "tcp://10.0.0.1:2",
                             .lease_milliseconds = 3000,
                             .listeners = {{2, 0, "tcp://10.0.0.1:3"}},
                             .node = "front",
                             .pid = 7},
                    .first_rank = first,
                    .rank_end = end,
                    .config = {{"tensor-parallel-size", "2"}},
                    .lease = kLease});
}

wire::GroupHello hello_of(uint64_t incarnation, uint32_t first = 2, uint32_t count = 2) {
  return {.first_rank = first,
          .rank_count = count,
          .incarnation = Incarnation{incarnation},
          .node = "far",
          .pid = 9,
          .config = {{"tensor-parallel-size", "2"}},
          .listeners = {{0, first, "tcp://10.0.0.2:4"}}};
}

Instant at(int64_t ms) { return Instant{} + milliseconds(ms); }

template <typename Message>
const Message* only(const std::vector<GroupHost::Letter>& letters) {
  EXPECT_EQ(letters.size(), 1u);
  return letters.empty() ? nullptr : std::get_if<Message>(&letters[0].message);
}

TEST(GroupHost, group_is_formed_once_every_rank_has_a_seat) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11, 3, 1));
  EXPECT_FALSE(host.is_formed());
  EXPECT_EQ(host.missing(), "rank 2");
  EXPECT_TRUE(host.take_outgoing().empty());
  host.on_message(at(1), "b", hello_of(12, 2, 1));
  EXPECT_TRUE(host.is_formed());
  const auto letters = host.take_outgoing();
  ASSERT_EQ(letters.size(), 2u);
  EXPECT_EQ(letters[0].to, "a");
  const auto& plan = std::get<wire::GroupPlan>(letters[0].message);
  EXPECT_EQ(plan.incarnation, Incarnation{11});
  EXPECT_EQ(plan.listeners.size(), 3u) << "those of the engine's node and of both seats";
}

TEST(GroupHost, hello_of_a_seat_that_missed_the_plan_is_answered_with_it_again) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11));
  EXPECT_NE(only<wire::GroupPlan>(host.take_outgoing()), nullptr);
  host.on_message(at(250), "a", hello_of(11));
  const auto again = host.take_outgoing();
  ASSERT_NE(only<wire::GroupPlan>(again), nullptr);
  EXPECT_EQ(only<wire::GroupPlan>(again)->listeners.size(), 2u) << "not twice in it";
}

TEST(GroupHost, other_configuration_is_refused_with_both_values) {
  GroupHost host = host_of(1);
  wire::GroupHello hello = hello_of(11);
  hello.config = {{"tensor-parallel-size", "4"}};
  host.on_message(at(0), "a", hello);
  const auto letters = host.take_outgoing();
  const auto* refuse = only<wire::GroupRefuse>(letters);
  ASSERT_NE(refuse, nullptr);
  EXPECT_TRUE(refuse->is_final);
  EXPECT_EQ(refuse->reason,
            "configuration differs in tensor-parallel-size: ranks 2-3 on node 'far' (pid 9) has "
            "'4', the engine on node 'front' has '2'; start all with the same value");
  EXPECT_EQ(host.take_refusal(), refuse->reason);
  EXPECT_FALSE(host.is_formed());
}

TEST(GroupHost, ranks_that_are_the_engines_own_are_refused) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11, 1, 2));
  const auto letters = host.take_outgoing();
  ASSERT_NE(only<wire::GroupRefuse>(letters), nullptr);
  EXPECT_TRUE(only<wire::GroupRefuse>(letters)->is_final);
}

TEST(GroupHost, second_claimant_waits_until_the_first_is_silent_or_leaves) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11, 2, 1));
  host.on_message(at(10), "b", hello_of(12, 2, 1));
  const auto letters = host.take_outgoing();
  ASSERT_NE(only<wire::GroupRefuse>(letters), nullptr);
  EXPECT_FALSE(only<wire::GroupRefuse>(letters)->is_final);
  host.on_message(at(20), "a", wire::GroupEnd{.incarnation = Incarnation{11}, .reason = "bye"});
  host.on_message(at(30), "b", hello_of(12, 2, 1));
  EXPECT_EQ(host.missing(), "rank 3");
  host.tick(at(3031));
  EXPECT_EQ(host.missing(), "ranks 2-3") << "silent for a lease";
}

TEST(GroupHost, seat_that_leaves_ends_the_formed_group_for_all_with_its_reason) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11, 2, 1));
  host.on_message(at(0), "b", hello_of(12, 3, 1));
  (void)host.take_outgoing();
  host.on_message(at(10), "a",
                  wire::GroupEnd{Incarnation{1}, Incarnation{11}, "killed by signal 9"});
  EXPECT_EQ(host.why().message(), "rank 2 on node 'far' (pid 9): killed by signal 9");
  EXPECT_EQ(host.take_outgoing().size(), 2u);
  host.on_message(at(20), "c", hello_of(13, 2, 1));
  EXPECT_NE(only<wire::GroupEnd>(host.take_outgoing()), nullptr) << "over is for good";
}

TEST(GroupHost, silent_seat_ends_the_formed_group) {
  GroupHost host = host_of(1);
  host.on_message(at(0), "a", hello_of(11));
  host.on_message(at(1000), "a", wire::GroupKeepAlive{Incarnation{1}, Incarnation{11}});
  EXPECT_EQ(host.wakeup(), at(4000));
  host.tick(at(3999));
  EXPECT_TRUE(host.why().ok());
  host.tick(at(4000));
  EXPECT_EQ(host.why().code(), StatusCode::kUnavailable);
}

TEST(GroupHost, a_late_step_is_told_with_the_next_sign_of_life_until_it_ends) {
  GroupHost host = host_of(1);
  GroupSeat seat(hello_of(11), at(0));
  host.on_message(at(0), "a", hello_of(11));
  const auto answer = [&](int64_t ms) {
    for (const auto& letter : host.take_outgoing()) seat.on_message(at(ms), letter.message);
    return seat.late_step();
  };
  EXPECT_EQ(answer(1), StepId{});
  host.set_late_step(StepId{812});
  host.on_message(at(700), "a", wire::GroupKeepAlive{Incarnation{1}, Incarnation{11}});
  EXPECT_EQ(answer(701), StepId{812});
  host.set_late_step(StepId{});
  host.on_message(at(1400), "a", wire::GroupKeepAlive{Incarnation{1}, Incarnation{11}});
  EXPECT_EQ(answer(1401), StepId{});
}

TEST(GroupHost, seat_of_an_older_engine_is_told_that_its_group_is_over) {
  GroupHost host = host_of(2);
  host.on_message(at(0), "a", wire::GroupKeepAlive{Incarnation{1}, Incarnation{11}});
  const auto letters = host.take_outgoing();
  const auto* end = only<wire::GroupEnd>(letters);
  ASSERT_NE(end, nullptr);
  EXPECT_EQ(end->group, Incarnation{1});
  EXPECT_EQ(host.missing(), "ranks 2-3");
}

TEST(GroupSeat, waits_for_the_engine_without_end_and_takes_its_plan) {
  GroupSeat seat(hello_of(11), at(0));
  for (int64_t ms = 0; ms < 120'000; ms += 250) {
    seat.tick(at(ms));
    EXPECT_EQ(seat.take_outgoing().size(), 1u);
  }
  seat.on_message(at(120'000), wire::GroupPlan{.group = Incarnation{1},
                                               .incarnation = Incarnation{11},
                                               .lease_milliseconds = 3000});
  EXPECT_TRUE(seat.is_seated());
  seat.tick(at(120'000));
  const auto out = seat.take_outgoing();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<wire::GroupKeepAlive>(out[0]));
}

TEST(GroupSeat, what_is_for_another_life_of_it_changes_nothing) {
  GroupSeat seat(hello_of(11), at(0));
  seat.on_message(at(1), wire::GroupPlan{.group = Incarnation{1},
                                         .incarnation = Incarnation{10},
                                         .lease_milliseconds = 3000});
  seat.on_message(at(1), wire::GroupRefuse{.incarnation = Incarnation{10}, .reason = "no"});
  EXPECT_FALSE(seat.is_seated() || seat.is_over());
}

TEST(GroupSeat, silence_of_a_lease_ends_it) {
  GroupSeat seat(hello_of(11), at(0));
  seat.on_message(at(1), wire::GroupPlan{.group = Incarnation{1},
                                         .incarnation = Incarnation{11},
                                         .lease_milliseconds = 3000});
  seat.on_message(at(1000), wire::GroupKeepAlive{Incarnation{1}, Incarnation{11}, true});
  EXPECT_TRUE(seat.is_serving());
  seat.tick(at(3999));
  EXPECT_FALSE(seat.is_over());
  seat.tick(at(4000));
  EXPECT_TRUE(seat.is_over());
  EXPECT_EQ(seat.why().code(), StatusCode::kUnavailable);
}

TEST(GroupSeat, refused_for_good_is_told_apart_from_come_again) {
  GroupSeat seat(hello_of(11), at(0));
  seat.on_message(at(1), wire::GroupRefuse{Incarnation{11}, "held", false});
  EXPECT_FALSE(seat.is_over());
  EXPECT_EQ(seat.told(), "held");
  seat.on_message(at(2), wire::GroupRefuse{Incarnation{11}, "differs", true});
  EXPECT_EQ(seat.why().code(), StatusCode::kFailedPrecondition);
}

// An engine and two seats; each is a life that may end and begin anew.
class World {
 public:
  explicit World(uint64_t seed) : random_(seed) { start_host(); }

  void run(int64_t until_ms, bool is_calm) {
    for (; time_ < until_ms; time_ += 25) {
      if (!is_calm && random_.below(60) == 0) kill_something();
      deliver(is_calm);
      turn_host();
      for (uint32_t i = 0; i < 2; ++i) turn_seat(i);
      post();
    }
  }
  [[nodiscard]] bool is_whole() const {
    return host_->is_formed() && seats_[0]->is_seated() && seats_[1]->is_seated() &&
           seats_[0]->plan().group == Incarnation{host_life_} &&
           seats_[1]->plan().group == Incarnation{host_life_};
  }
  // Per group, who was ever seated for a rank: at most one life.
  std::map<std::pair<uint64_t, uint32_t>, std::set<uint64_t>> seated;

 private:
  struct Parcel {
    int64_t due;
    uint64_t to;  // 0: the host; else the seat's incarnation.
    uint64_t from;
    std::optional<FromSeat> up;
    std::optional<ToSeat> down;
  };
  void start_host() {
    host_life_ = ++lives_;
    host_.emplace(host_of(host_life_));
  }
  void start_seat(uint32_t index) {
    seat_life_[index] = ++lives_;
    seats_[index].emplace(hello_of(seat_life_[index], 2 + index, 1), at(time_));
  }
  void kill_something() {
    const uint64_t who = random_.below(3);
    if (who == 0) return start_host();
    seats_[who - 1].reset();  // Silent until it is started anew.
  }
  void turn_host() {
    host_->tick(at(time_));
    if (!host_->why().ok()) {
      post();
      start_host();
    }
  }
  void turn_seat(uint32_t index) {
    auto& seat = seats_[index];
    if (!seat) {
      if (random_.below(20) == 0) start_seat(index);
      return;
    }
    seat->tick(at(time_));
    if (seat->is_seated()) {
      seated[{seat->plan().group.value, index}].insert(seat_life_[index]);
    }
    if (seat->is_over()) {
      EXPECT_EQ(seat->why().code(), StatusCode::kUnavailable);
      seat.reset();
    }
  }
  void post() {
    for (auto& letter : host_->take_outgoing()) {
      add({.to = std::stoull(letter.to), .from = 0, .down = letter.message});
    }
    for (uint32_t i = 0; i < 2; ++i) {
      if (!seats_[i]) continue;
      for (auto& message : seats_[i]->take_outgoing()) {
        add({.to = 0, .from = seat_life_[i], .up = message});
      }
    }
  }
  void add(Parcel parcel) {
    parcel.due = time_ + 1 + static_cast<int64_t>(random_.below(200));
    if (random_.below(10) == 0) parcels_.push_back(parcel);  // Twice.
    parcels_.push_back(std::move(parcel));
  }
  void deliver(bool is_calm) {
    std::vector<Parcel> due;
    std::erase_if(parcels_, [&](const Parcel& parcel) {
      if (parcel.due > time_) return false;
      if (is_calm || random_.below(10) > 0) due.push_back(parcel);
      return true;
    });
    for (const Parcel& parcel : due) {
      if (parcel.up) host_->on_message(at(time_), std::to_string(parcel.from), *parcel.up);
      for (uint32_t i = 0; i < 2 && parcel.down; ++i) {
        if (seats_[i] && seat_life_[i] == parcel.to) {
          seats_[i]->on_message(at(time_), *parcel.down);
        }
      }
    }
  }

  Random random_;
  int64_t time_ = 0;
  uint64_t lives_ = 0;
  uint64_t host_life_ = 0;
  std::optional<GroupHost> host_;
  uint64_t seat_life_[2] = {};
  std::optional<GroupSeat> seats_[2];
  std::vector<Parcel> parcels_;
};

TEST(GroupWorld, whoever_dies_and_whatever_is_lost_a_calm_time_makes_it_whole) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    World world(seed);
    world.run(30'000, false);
    world.run(50'000, true);
    EXPECT_TRUE(world.is_whole()) << "seed " << seed;
    for (const auto& [place, lives] : world.seated) {
      EXPECT_EQ(lives.size(), 1u) << "seed " << seed << " group " << place.first;
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace trireme::engine
