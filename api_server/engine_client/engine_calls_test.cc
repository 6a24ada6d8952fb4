// EngineCalls: who is asked what, and what the caller hears. Method: engines as small models that
// do what they are told in the order in which it comes, and two front ends over one register; the
// last test lets calls, losses and deliveries of both cross at random.
#include "api_server/engine_client/engine_calls.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <random>

namespace trireme::api {
namespace {

using std::chrono_literals::operator""s;
using wire::UtilityMethod;

constexpr Instant kStart{};
constexpr uint64_t kLaunch = 500;
constexpr uint64_t kAsked = 1000;

// One engine, and a queue of calls from each front end.
struct ModelEngine {
  PauseMode mode = PauseMode::kServing;
  bool is_asleep = false;
  bool is_up = true;
  uint64_t overruled_by = 0;  // By what another node has asked of those that step with it.
  std::map<int, std::deque<wire::UtilityCall>> inbox;
  [[nodiscard]] bool is_paused() const { return mode != PauseMode::kServing; }
};

class Cluster {
 public:
  explicit Cluster(uint32_t ranks, int front_ends = 1)
      : engines_(ranks), shared_(*PauseRegister::create(kLaunch)) {
    for (int i = 0; i < front_ends; ++i) {
      front_ends_.push_back(
          std::make_unique<EngineCalls>([this, i](uint32_t rank, const wire::UtilityCall& call) {
            if (is_full) return false;
            engines_[rank].inbox[i].push_back(call);
            return true;
          }));
      front_ends_.back()->share(*PauseRegister::attach(UniqueFd(::dup(shared_.fd()))));
    }
    for (uint32_t rank = 0; rank < ranks; ++rank) join(rank);
    deliver_all();
  }

  EngineCalls& calls(int front_end = 0) {
    return *front_ends_[static_cast<std::size_t>(front_end)];
  }
  ModelEngine& engine(uint32_t rank) { return engines_[rank]; }

  void join(uint32_t rank, bool is_draining = false) {
    engines_[rank].is_up = true;
    for (const auto& front_end : front_ends_) front_end->on_join(rank, is_draining);
  }
  void lose(uint32_t rank) {
    engines_[rank] = {.is_up = false};
    for (const auto& front_end : front_ends_) front_end->on_loss(rank);
  }
  // The next call of a front end is done and answered. False: there is none.
  bool deliver(uint32_t rank, int front_end = 0) {
    auto& inbox = engines_[rank].inbox[front_end];
    if (inbox.empty()) return false;
    const wire::UtilityCall call = inbox.front();
    inbox.pop_front();
    calls(front_end).on_reply(rank, reply_to(rank, call));
    return true;
  }
  void deliver_all() {
    bool was_busy = true;
    while (was_busy) {
      was_busy = false;
      for (uint32_t rank = 0; rank < engines_.size(); ++rank) {
        for (int i = 0; i < static_cast<int>(front_ends_.size()); ++i) was_busy |= deliver(rank, i);
      }
    }
  }
  void tick(Instant now = kStart) {
    for (const auto& front_end : front_ends_) front_end->tick(now);
  }
  [[nodiscard]] std::size_t waiting(uint32_t rank, int front_end = 0) {
    return engines_[rank].inbox[front_end].size();
  }

  [[nodiscard]] PauseState wanted() const { return shared_.get(); }

  bool is_full = false;

 private:
  wire::UtilityReply reply_to(uint32_t rank, const wire::UtilityCall& call) {
    ModelEngine& engine = engines_[rank];
    if (call.issued_at > 0 && call.issued_at < engine.overruled_by) {
      return {.call_id = call.call_id, .overruled_by = engine.overruled_by};
    }
    for (const PauseMode mode : {PauseMode::kAbort, PauseMode::kWait, PauseMode::kKeep}) {
      const bool sleeps = call.method == UtilityMethod::kSleep;
      if ((sleeps || call.method == UtilityMethod::kPause) && call.argument == name_of(mode)) {
        engine.mode = mode;
        engine.is_asleep = sleeps;
      }
    }
    if (call.method == UtilityMethod::kResume) {
      engine.mode = PauseMode::kServing;
      engine.is_asleep = false;
    }
    const bool is_no = call.method == UtilityMethod::kIsPaused && !engine.is_paused();
    return {.call_id = call.call_id, .ok = true, .result = is_no ? "false" : "true"};
  }

  std::vector<ModelEngine> engines_;
  PauseRegister shared_;
  std::vector<std::unique_ptr<EngineCalls>> front_ends_;
};

// What a caller heard.
struct Heard {
  int times = 0;
  Status status;
  bool are_all_true = false;
  EngineCalls::Done done() {
    return [this](const StatusOr<CallAnswers>& answers) {
      ++times;
      status = answers.status();
      are_all_true = answers.ok() && answers->are_all_true();
    };
  }
};

TEST(EngineCalls, a_call_is_done_when_every_engine_has_answered) {
  Cluster cluster(2);
  Heard heard;
  cluster.calls().ask(UtilityMethod::kIsPaused, kStart + 1s, heard.done());
  EXPECT_TRUE(cluster.deliver(0));
  EXPECT_EQ(heard.times, 0);
  EXPECT_TRUE(cluster.deliver(1));
  EXPECT_EQ(heard.times, 1);
  EXPECT_TRUE(heard.status.ok());
  EXPECT_FALSE(heard.are_all_true);
  EXPECT_EQ(cluster.calls().rounds_open(), 0u);
}

TEST(EngineCalls, without_an_engine_nothing_is_asked_and_no_pause_is_kept) {
  Cluster cluster(1);
  cluster.lose(0);
  Heard heard;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, heard.done());
  EXPECT_EQ(heard.status.code(), StatusCode::kUnavailable);
  cluster.join(0);
  cluster.deliver_all();
  EXPECT_FALSE(cluster.engine(0).is_paused());
}

TEST(EngineCalls, an_engine_that_is_lost_is_left_out_and_paused_when_it_comes_back) {
  Cluster cluster(2);
  Heard heard;
  cluster.calls().pause(PauseMode::kKeep, kAsked, kStart + 1s, heard.done());
  EXPECT_TRUE(cluster.deliver(0));
  cluster.lose(1);
  EXPECT_EQ(heard.times, 1);
  EXPECT_TRUE(heard.status.ok());
  cluster.join(1);
  // Before anything else: a request that is sent next finds it paused.
  EXPECT_EQ(cluster.engine(1).inbox[0].front().method, UtilityMethod::kPause);
  EXPECT_EQ(cluster.engine(1).inbox[0].front().argument, "keep");
  cluster.deliver_all();
  EXPECT_TRUE(cluster.engine(1).is_paused());
}

TEST(EngineCalls, whoever_is_told_of_a_pause_is_told_when_it_was_asked_for) {
  Cluster cluster(2, /*front_ends=*/2);
  Heard heard;
  cluster.lose(1);
  cluster.calls(0).pause(PauseMode::kKeep, kAsked, kStart + 1s, heard.done());
  cluster.join(1);
  for (const auto& [rank, front_end] : {std::pair(0u, 0), std::pair(1u, 0), std::pair(1u, 1)}) {
    EXPECT_EQ(cluster.engine(rank).inbox[front_end].back().issued_at, kAsked);
  }
  cluster.calls(0).ask(UtilityMethod::kIsPaused, kStart + 1s, heard.done());
  EXPECT_EQ(cluster.engine(0).inbox[0].back().issued_at, 0u);
}

TEST(EngineCalls, what_another_nodes_front_end_overrules_is_asked_again_as_asked_for_later) {
  Cluster cluster(2);
  cluster.engine(0).mode = cluster.engine(1).mode = PauseMode::kKeep;
  cluster.engine(1).overruled_by = 5000;
  Heard heard;
  cluster.calls().pause(PauseMode::kServing, kAsked, kStart + 1s, heard.done());
  cluster.deliver_all();
  EXPECT_EQ(heard.times, 1);
  EXPECT_TRUE(heard.are_all_true) << heard.status;
  for (const uint32_t rank : {0U, 1U}) EXPECT_FALSE(cluster.engine(rank).is_paused());
  EXPECT_EQ(cluster.wanted(), (PauseState{5001, PauseMode::kServing}));
}

TEST(EngineCalls, an_engine_that_comes_meanwhile_is_waited_for) {
  Cluster cluster(2);
  cluster.lose(1);
  Heard heard;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, heard.done());
  cluster.join(1);
  EXPECT_TRUE(cluster.deliver(0));
  EXPECT_EQ(heard.times, 0);
  cluster.deliver_all();
  EXPECT_EQ(heard.times, 1);
  EXPECT_TRUE(cluster.engine(0).is_paused() && cluster.engine(1).is_paused());
}

TEST(EngineCalls, all_lost_is_not_done_but_waits_for_who_comes) {
  Cluster cluster(1);
  Heard heard;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, heard.done());
  cluster.lose(0);
  EXPECT_EQ(heard.times, 0);
  cluster.tick(kStart + 1s);
  EXPECT_EQ(heard.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(heard.status.message(), "no engine is ready in time; try again");
}

TEST(EngineCalls, who_is_silent_is_named_when_the_time_is_over) {
  Cluster cluster(4);
  Heard heard;
  cluster.calls().pause(PauseMode::kKeep, kAsked, kStart + 1s, heard.done());
  EXPECT_TRUE(cluster.deliver(0) && cluster.deliver(2));
  cluster.tick(kStart + 1s - Duration(1));
  EXPECT_EQ(heard.times, 0);
  cluster.tick(kStart + 1s);
  EXPECT_EQ(heard.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(heard.status.message(), "ranks 1, 3 have not answered in time; try again");
  cluster.deliver_all();  // Late answers harm nobody.
  EXPECT_EQ(heard.times, 1);
}

TEST(EngineCalls, a_full_queue_is_tried_again_with_the_tick) {
  Cluster cluster(1);
  cluster.is_full = true;
  Heard heard;
  cluster.calls().pause(PauseMode::kWait, kAsked, Instant::max(), heard.done());
  cluster.tick();
  EXPECT_EQ(cluster.waiting(0), 0u);
  cluster.is_full = false;
  cluster.tick();
  cluster.deliver_all();
  EXPECT_EQ(heard.times, 1);
}

TEST(EngineCalls, an_engine_that_drains_is_not_frozen_but_told_all_else) {
  Cluster cluster(2);
  cluster.calls().on_drain(1);
  Heard kept;
  cluster.calls().pause(PauseMode::kKeep, kAsked, kStart + 1s, kept.done());
  EXPECT_EQ(cluster.waiting(1), 0u);
  cluster.deliver_all();
  EXPECT_EQ(kept.times, 1);
  Heard aborted;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, aborted.done());
  EXPECT_EQ(cluster.waiting(1), 1u);
  cluster.deliver_all();
  EXPECT_EQ(aborted.times, 1);
}

TEST(EngineCalls, two_that_want_the_same_are_both_done) {
  Cluster cluster(2);
  Heard first;
  Heard second;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, first.done());
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, second.done());
  cluster.deliver_all();
  EXPECT_TRUE(first.times == 1 && first.status.ok());
  EXPECT_TRUE(second.times == 1 && second.status.ok());
}

TEST(EngineCalls, a_pause_that_waits_ends_when_it_is_resumed) {
  Cluster cluster(1);
  Heard paused;
  Heard resumed;
  cluster.calls().pause(PauseMode::kWait, kAsked, Instant::max(), paused.done());
  cluster.calls().pause(PauseMode::kServing, kAsked, kStart + 1s, resumed.done());
  EXPECT_EQ(paused.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(paused.status.message(),
            "another call came before this one was done, and the engines now serve");
  cluster.deliver_all();
  EXPECT_TRUE(resumed.status.ok());
  EXPECT_FALSE(cluster.engine(0).is_paused());
}

TEST(EngineCalls, who_is_lost_and_comes_again_sleeps_as_the_others_do) {
  Cluster cluster(2);
  Heard slept;
  cluster.calls().sleep(PauseMode::kKeep, kAsked, kStart + 1s, slept.done());
  cluster.deliver_all();
  EXPECT_TRUE(slept.times == 1 && slept.status.ok());
  cluster.lose(1);
  cluster.join(1);
  cluster.deliver_all();
  EXPECT_TRUE(cluster.engine(0).is_asleep && cluster.engine(1).is_asleep);
  // A pause does not wake.
  Heard paused;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, paused.done());
  cluster.deliver_all();
  EXPECT_TRUE(paused.status.ok());
  EXPECT_TRUE(cluster.engine(0).is_asleep && cluster.engine(0).mode == PauseMode::kAbort);
}

TEST(EngineCalls, a_caller_may_ask_again_from_its_answer) {
  Cluster cluster(1);
  Heard heard;
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, [&](const auto&) {
    cluster.calls().ask(UtilityMethod::kResetPrefixCache, kStart + 1s, heard.done());
  });
  cluster.deliver_all();
  EXPECT_EQ(heard.times, 1);
}

TEST(EngineCalls, the_number_of_open_calls_is_bounded) {
  Cluster cluster(1);
  Heard heard;
  for (std::size_t i = 0; i < EngineCalls::kRoundsMax; ++i) {
    cluster.calls().ask(UtilityMethod::kIsPaused, kStart + 1s, heard.done());
  }
  EXPECT_EQ(heard.times, 0);
  cluster.calls().pause(PauseMode::kAbort, kAsked, kStart + 1s, heard.done());
  EXPECT_EQ(heard.times, 1);
  EXPECT_EQ(heard.status.code(), StatusCode::kResourceExhausted);
  cluster.calls().fail_all(error(StatusCode::kUnavailable, "stopped"));
  EXPECT_EQ(heard.times, 1 + static_cast<int>(EngineCalls::kRoundsMax));
  EXPECT_EQ(cluster.calls().rounds_open(), 0u);
}

TEST(EngineCalls, an_engine_hears_of_a_pause_from_every_front_end_whoever_was_asked) {
  Cluster cluster(2, /*front_ends=*/2);
  Heard heard;
  cluster.calls(0).pause(PauseMode::kAbort, kAsked, kStart + 1s, heard.done());
  cluster.deliver_all();
  cluster.lose(1);
  cluster.join(1);
  EXPECT_EQ(cluster.engine(1).inbox[1].front().method, UtilityMethod::kPause);
  // Resumed by the other one; the first does not pause the next one that comes.
  cluster.calls(1).pause(PauseMode::kServing, kAsked, kStart + 1s, heard.done());
  cluster.deliver_all();
  cluster.lose(0);
  cluster.join(0);
  cluster.deliver_all();
  EXPECT_FALSE(cluster.engine(0).is_paused() || cluster.engine(1).is_paused());
}

TEST(EngineCalls, of_two_front_ends_that_cross_the_later_one_is_obeyed_by_all) {
  Cluster cluster(2, /*front_ends=*/2);
  Heard paused;
  Heard resumed;
  cluster.calls(0).pause(PauseMode::kAbort, kAsked, kStart + 1s, paused.done());
  cluster.calls(1).pause(PauseMode::kServing, kAsked, kStart + 1s, resumed.done());
  // One engine hears them in this order, the other in that.
  EXPECT_TRUE(cluster.deliver(0, 0) && cluster.deliver(0, 1));
  EXPECT_TRUE(cluster.deliver(1, 1) && cluster.deliver(1, 0));
  cluster.deliver_all();
  EXPECT_FALSE(cluster.engine(0).is_paused() || cluster.engine(1).is_paused());
  EXPECT_EQ(paused.status.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(resumed.status.ok());
}

TEST(EngineCalls, a_pause_that_waits_ends_when_another_front_end_resumes) {
  Cluster cluster(1, /*front_ends=*/2);
  Heard paused;
  Heard resumed;
  cluster.calls(0).pause(PauseMode::kWait, kAsked, Instant::max(), paused.done());
  cluster.calls(1).pause(PauseMode::kServing, kAsked, kStart + 1s, resumed.done());
  EXPECT_TRUE(cluster.deliver(0, 1));
  EXPECT_EQ(paused.times, 0);
  cluster.tick();  // Its engine may be busy for long.
  EXPECT_EQ(paused.status.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(resumed.status.ok());
}

TEST(EngineCalls, whatever_crosses_in_the_end_all_do_what_was_asked_last) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::minstd_rand random(seed + 1);
    const auto draw = [&](uint32_t below) { return static_cast<uint32_t>(random()) % below; };
    Cluster cluster(3, /*front_ends=*/2);
    std::deque<Heard> heard;
    for (int step = 0; step < 60; ++step) {
      const uint32_t rank = draw(3);
      const int front_end = static_cast<int>(draw(2));
      const uint32_t what = draw(16);
      if (what == 0 && cluster.engine(rank).is_up) {
        cluster.lose(rank);
      } else if (what == 1 && !cluster.engine(rank).is_up) {
        cluster.join(rank);
      } else if (what == 2) {
        cluster.tick();
      } else if (what == 3) {
        cluster.is_full = draw(2) == 0;
      } else if (what == 4) {
        heard.emplace_back();
        cluster.calls(front_end).sleep(static_cast<PauseMode>(1 + draw(3)), kAsked, Instant::max(),
                                       heard.back().done());
      } else if (what <= 6) {
        heard.emplace_back();
        cluster.calls(front_end).pause(static_cast<PauseMode>(draw(4)), kAsked, Instant::max(),
                                       heard.back().done());
      } else {
        (void)cluster.deliver(rank, front_end);
      }
    }
    for (uint32_t rank = 0; rank < 3; ++rank) {
      if (!cluster.engine(rank).is_up) cluster.join(rank);
    }
    cluster.is_full = false;
    for (int i = 0; i < 3; ++i) {
      cluster.tick();
      cluster.deliver_all();
    }
    for (uint32_t rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(cluster.engine(rank).mode, cluster.wanted().mode) << "seed " << seed;
      EXPECT_EQ(cluster.engine(rank).is_asleep, cluster.wanted().sleeps) << "seed " << seed;
    }
    heard.emplace_back();
    cluster.calls().ask(UtilityMethod::kIsPaused, Instant::max(), heard.back().done());
    cluster.deliver_all();
    EXPECT_EQ(heard.back().are_all_true, cluster.wanted().mode != PauseMode::kServing)
        << "seed " << seed;
    for (const Heard& one : heard) EXPECT_EQ(one.times, 1) << "seed " << seed;
  }
}

}  // namespace
}  // namespace trireme::api
