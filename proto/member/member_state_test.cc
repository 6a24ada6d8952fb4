// Tests of the member's half of the control channel, one rule per test.
#include "proto/member/member_state.h"

#include <gtest/gtest.h>

namespace trireme::member {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class MemberStateTest : public testing::Test {
 protected:
  MemberState make(wire::Role role) {
    return {wire::Hello{.role = role, .index = 1, .incarnation = Incarnation{7}}, seconds(2), now_};
  }
  wire::Init init(uint64_t coordinator) {
    return {.epoch = Epoch{0},
            .coordinator = Incarnation{coordinator},
            .lease_milliseconds = 2000,
            .engine_count = 2};
  }
  std::vector<Outgoing> tick(bool is_alive = true) {
    state_.tick(now_, is_alive);
    return state_.take_outgoing();
  }
  void join(uint64_t coordinator = 50) {
    tick();
    state_.on_message(now_, init(coordinator));
    (void)state_.take_outgoing();
    while (state_.next_event()) {
    }
  }
  template <typename Message>
  static int count(const std::vector<Outgoing>& messages) {
    int found = 0;
    for (const Outgoing& message : messages) found += std::holds_alternative<Message>(message);
    return found;
  }
  template <typename Wanted>
  std::optional<Wanted> event() {
    while (auto event = state_.next_event()) {
      if (auto* wanted = std::get_if<Wanted>(&*event)) return *wanted;
    }
    return std::nullopt;
  }

  Instant now_{seconds(500)};
  MemberState state_ = make(wire::Role::kEngine);
};

TEST_F(MemberStateTest, says_hello_at_once_and_then_every_half_second) {
  EXPECT_EQ(count<wire::Hello>(tick()), 1);
  now_ += milliseconds(499);
  EXPECT_EQ(tick().size(), 0u);
  now_ += milliseconds(1);
  EXPECT_EQ(count<wire::Hello>(tick()), 1);
  EXPECT_FALSE(state_.is_joined());
}

TEST_F(MemberStateTest, accepted_once_for_two_inits_of_one_coordinator) {
  tick();
  state_.on_message(now_, init(50));
  state_.on_message(now_, init(50));
  EXPECT_TRUE(state_.is_joined());
  EXPECT_TRUE(event<Accepted>()->is_new_coordinator);
  EXPECT_FALSE(event<Accepted>());
}

TEST_F(MemberStateTest, keep_alive_every_quarter_of_a_lease) {
  join();
  now_ += milliseconds(499);
  EXPECT_EQ(count<wire::KeepAlive>(tick()), 0);
  EXPECT_EQ(state_.wakeup(), now_ + milliseconds(1));
  now_ += milliseconds(1);
  EXPECT_EQ(count<wire::KeepAlive>(tick()), 1);
}

TEST_F(MemberStateTest, a_frozen_owner_says_nothing) {
  join();
  now_ += seconds(1);
  EXPECT_EQ(tick(/*is_alive=*/false).size(), 0u);
  now_ += seconds(3);
  EXPECT_EQ(tick(/*is_alive=*/false).size(), 0u);  // Nor does it join again.
  EXPECT_EQ(count<wire::Hello>(tick(/*is_alive=*/true)), 1);
}

TEST_F(MemberStateTest, silence_for_a_lease_means_hello_again) {
  join();
  state_.set_ready({.block_count = 5});
  (void)state_.take_outgoing();
  now_ += milliseconds(1999);
  EXPECT_EQ(count<wire::Hello>(tick()), 0);
  now_ += milliseconds(1);
  EXPECT_EQ(count<wire::Hello>(tick()), 1);
  EXPECT_EQ(event<CoordinatorSilent>()->silence, seconds(2));
  state_.on_message(now_, init(50));
  const auto said = state_.take_outgoing();
  EXPECT_EQ(count<wire::MemberReady>(said), 1);
  EXPECT_FALSE(event<Accepted>()->is_new_coordinator);
}

TEST_F(MemberStateTest, anything_heard_renews_the_lease) {
  join();
  for (int i = 0; i < 5; ++i) {
    now_ += milliseconds(1500);
    state_.on_message(now_, wire::Ack{});
    EXPECT_EQ(count<wire::Hello>(tick()), 0);
  }
}

TEST_F(MemberStateTest, a_coordinator_that_does_not_know_us_gets_a_hello_at_once) {
  join();
  state_.on_message(now_, wire::Refuse{.reason = "unknown", .is_final = false});
  EXPECT_EQ(count<wire::Hello>(tick()), 1);
  EXPECT_FALSE(event<Refused>());
}

TEST_F(MemberStateTest, a_refusal_that_is_not_final_is_shown_and_asked_again) {
  tick();
  state_.on_message(now_, wire::Refuse{.reason = "held by 1", .is_final = false});
  EXPECT_EQ(event<Refused>()->reason, "held by 1");
  now_ += milliseconds(500);
  EXPECT_EQ(count<wire::Hello>(tick()), 1);
}

TEST_F(MemberStateTest, a_final_refusal_ends_it) {
  tick();
  state_.on_message(now_, wire::Refuse{.reason = "dtype", .is_final = true});
  EXPECT_TRUE(event<Refused>()->is_final);
  now_ += seconds(10);
  EXPECT_EQ(tick().size(), 0u);
  state_.on_message(now_, init(50));
  EXPECT_FALSE(state_.is_joined());
}

TEST_F(MemberStateTest, a_change_of_the_view_it_holds_is_the_next_view) {
  join();
  state_.on_message(now_, wire::View{.epoch = Epoch{5}, .coordinator = Incarnation{50}});
  state_.on_message(now_, wire::ViewChange{.base = Epoch{5},
                                           .epoch = Epoch{6},
                                           .coordinator = Incarnation{50},
                                           .changed = {{.role = wire::Role::kEngine}}});
  const auto view = event<wire::View>();
  EXPECT_EQ(view->epoch, Epoch{6});
  EXPECT_EQ(view->members.size(), 1u);
}

TEST_F(MemberStateTest, a_change_of_another_view_is_not_used_and_the_keep_alive_shows_it) {
  join();
  state_.on_message(
      now_, wire::ViewChange{.base = Epoch{5}, .epoch = Epoch{6}, .coordinator = Incarnation{50}});
  EXPECT_FALSE(event<wire::View>());
  EXPECT_EQ(state_.view().epoch, Epoch{0});
  now_ += milliseconds(500);
  const auto said = tick();
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(std::get<wire::KeepAlive>(said[0]).epoch_seen, Epoch{0});
}

TEST_F(MemberStateTest, views_only_go_forward_whoever_sends_them) {
  join();
  state_.on_message(now_, wire::View{.epoch = Epoch{5}, .coordinator = Incarnation{50}});
  state_.on_message(now_, wire::View{.epoch = Epoch{4}, .coordinator = Incarnation{51}});
  EXPECT_EQ(state_.view().epoch, Epoch{5});
  state_.on_message(now_, wire::View{.epoch = Epoch{6}, .coordinator = Incarnation{51}});
  EXPECT_EQ(event<wire::View>()->epoch, Epoch{6});  // Only the newest waits.
  EXPECT_FALSE(event<wire::View>());
}

TEST_F(MemberStateTest, hello_names_the_highest_epoch_and_wave_seen) {
  join();
  state_.on_message(now_, wire::View{.epoch = Epoch{5}});
  state_.set_wave(wire::WaveEventKind::kComplete, WaveId{8});
  (void)state_.take_outgoing();
  state_.on_message(now_, wire::StartWave{.wave = WaveId{9}});
  state_.on_message(now_, wire::Refuse{.is_final = false});
  const auto said = tick();
  ASSERT_EQ(count<wire::Hello>(said), 1);
  EXPECT_EQ(std::get<wire::Hello>(said.front()).epoch_seen, Epoch{5});
  EXPECT_EQ(std::get<wire::Hello>(said.front()).wave_seen, WaveId{9});
}

TEST_F(MemberStateTest, a_start_wave_is_passed_on_once_and_answered_when_the_owner_is_in) {
  join();
  for (int i = 0; i < 2; ++i) {
    state_.on_message(now_, wire::StartWave{.wave = WaveId{3}});
    EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 0);
  }
  EXPECT_EQ(event<wire::StartWave>()->wave, WaveId{3});
  EXPECT_FALSE(event<wire::StartWave>());
  state_.set_wave(wire::WaveEventKind::kRunning, WaveId{3});
  EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 1);
  state_.on_message(now_, wire::StartWave{.wave = WaveId{3}});
  EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 1) << "the first answer was lost";
}

TEST_F(MemberStateTest, a_start_wave_is_passed_on_again_where_it_says_to_abandon_more) {
  join();
  for (const uint64_t below : {1, 3, 3, 2}) {
    state_.on_message(now_, wire::StartWave{.wave = WaveId{3}, .abandon_below = WaveId{below}});
  }
  EXPECT_EQ(event<wire::StartWave>()->abandon_below, WaveId{1});
  EXPECT_EQ(event<wire::StartWave>()->abandon_below, WaveId{3});
  EXPECT_FALSE(event<wire::StartWave>());
}

TEST_F(MemberStateTest, where_a_rank_stands_is_repeated_unless_it_sleeps) {
  join();
  const auto reports = [&] {
    now_ += milliseconds(500);
    return count<wire::WaveReport>(tick());
  };
  state_.set_wave(wire::WaveEventKind::kStart, WaveId{3});
  EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 1);
  EXPECT_EQ(reports(), 1);
  state_.set_wave(wire::WaveEventKind::kRunning, WaveId{4});
  (void)state_.take_outgoing();
  EXPECT_EQ(reports(), 1);
  state_.set_wave(wire::WaveEventKind::kRunning, WaveId{4}, {2});
  EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 1) << "whom it waits for is news";
  state_.set_wave(wire::WaveEventKind::kComplete, WaveId{4});
  EXPECT_EQ(count<wire::WaveReport>(state_.take_outgoing()), 1);
  EXPECT_EQ(reports(), 0);
}

TEST_F(MemberStateTest, a_new_coordinator_hears_of_the_wave_that_runs) {
  join(50);
  state_.set_wave(wire::WaveEventKind::kRunning, WaveId{3});
  state_.on_message(now_, wire::Refuse{.is_final = false});
  tick();
  state_.on_message(now_, init(51));
  const auto said = state_.take_outgoing();
  EXPECT_EQ(count<wire::WaveReport>(said), 1);
}

TEST_F(MemberStateTest, load_goes_out_when_changed_at_most_every_50_ms) {
  join();
  now_ += milliseconds(1);
  wire::EngineStats stats{.waiting = 1};
  state_.report_load(stats);
  const auto said = tick();
  ASSERT_EQ(count<wire::LoadReport>(said), 1);
  EXPECT_EQ(std::get<wire::LoadReport>(said.front()).sequence, 1u);
  state_.report_load(stats);
  now_ += milliseconds(60);
  EXPECT_EQ(count<wire::LoadReport>(tick()), 0);
  stats.waiting = 2;
  state_.report_load(stats);
  EXPECT_EQ(count<wire::LoadReport>(tick()), 1);
  stats.waiting = 3;
  state_.report_load(stats);
  now_ += milliseconds(49);
  EXPECT_EQ(count<wire::LoadReport>(tick()), 0);
  now_ += milliseconds(1);
  EXPECT_EQ(count<wire::LoadReport>(tick()), 1);
}

TEST_F(MemberStateTest, what_a_node_agent_saw_is_told_to_each_coordinator) {
  state_ = make(wire::Role::kNodeAgent);
  state_.report_rank({.engine = EngineId{2}, .reason = "exit code 1", .restarts = 1});
  EXPECT_EQ(count<wire::RankReport>(state_.take_outgoing()), 0);
  tick();
  state_.on_message(now_, init(50));
  EXPECT_EQ(count<wire::RankReport>(state_.take_outgoing()), 1);
}

TEST_F(MemberStateTest, draining_is_said_at_once) {
  join();
  now_ += milliseconds(1);
  state_.set_draining();
  const auto said = tick();
  ASSERT_EQ(count<wire::KeepAlive>(said), 1);
  EXPECT_EQ(std::get<wire::KeepAlive>(said.front()).state, wire::MemberState::kDraining);
}

TEST_F(MemberStateTest, who_left_says_nothing_more) {
  join();
  state_.leave("stopped");
  EXPECT_EQ(count<wire::Leave>(state_.take_outgoing()), 1);
  now_ += seconds(5);
  EXPECT_EQ(tick().size(), 0u);
}

}  // namespace
}  // namespace trireme::member
