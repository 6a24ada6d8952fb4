// Tests of the coordinator's view, one rule per test. Longer histories: tests/golden/coordinator.
#include "coordinator/view_state.h"

#include <gtest/gtest.h>

namespace trireme::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::MemberState;
using wire::Role;

class ViewStateTest : public testing::Test {
 protected:
  wire::Hello hello(Role role, uint32_t index, uint64_t life) {
    return {.role = role,
            .index = index,
            .incarnation = Incarnation{life},
            .node = "front",
            .pid = static_cast<uint32_t>(4000 + life),
            .config = {{"dtype", "bfloat16"}},
            .launch = LaunchId{1}};
  }
  wire::MemberKey engine(uint32_t rank, uint64_t life) {
    return {Role::kEngine, rank, Incarnation{life}};
  }
  bool join(const wire::Hello& hello) {
    return std::holds_alternative<wire::Init>(state_.on_hello(now_, hello));
  }
  wire::Refuse refusal(const wire::Hello& hello) {
    const auto reply = state_.on_hello(now_, hello);
    EXPECT_TRUE(std::holds_alternative<wire::Refuse>(reply));
    const auto* refuse = std::get_if<wire::Refuse>(&reply);
    return refuse == nullptr ? wire::Refuse{} : *refuse;
  }
  KeepAliveReply keep_alive(const wire::MemberKey& key, MemberState state, uint64_t epoch = 0) {
    return state_.on_keep_alive(
        now_, key, {.incarnation = key.incarnation, .state = state, .epoch_seen = Epoch{epoch}});
  }
  std::optional<wire::View> after(Duration time) {
    std::optional<wire::View> view;
    const Instant end = now_ + time;
    while (now_ < end) {
      now_ = std::min(end, now_ + milliseconds(500));
      if (auto next = state_.tick(now_)) view = next;
    }
    return view;
  }

  Instant now_{seconds(1000)};
  ViewState state_{
      ViewOptions{.engine_count = 4, .config = {{"dtype", "bfloat16"}}, .self = Incarnation{99}},
      now_};
};

TEST_F(ViewStateTest, a_member_is_starting_until_it_is_ready) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  auto view = state_.tick(now_);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members.at(0).state, MemberState::kStarting);
  state_.on_ready(now_, engine(2, 1), {.block_count = 128});
  view = after(milliseconds(20));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members.at(0).state, MemberState::kReady);
  EXPECT_EQ(view->members.at(0).ready.block_count, 128u);
  EXPECT_EQ(view->epoch, Epoch{2});
}

TEST_F(ViewStateTest, changes_within_the_interval_share_one_epoch) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  ASSERT_TRUE(state_.tick(now_));
  ASSERT_TRUE(join(hello(Role::kEngine, 1, 2)));
  EXPECT_FALSE(state_.tick(now_ + milliseconds(10)));
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 3)));
  const auto view = state_.tick(now_ + milliseconds(20));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->epoch, Epoch{2});
  EXPECT_EQ(view->members.size(), 3u);
}

TEST_F(ViewStateTest, a_rank_out_of_range_is_refused_with_both_numbers) {
  const wire::Refuse no = refusal(hello(Role::kEngine, 4, 1));
  EXPECT_TRUE(no.is_final);
  EXPECT_EQ(no.reason, "rank 4 does not exist: --data-parallel-size is 4 (ranks 0 to 3)");
}

TEST_F(ViewStateTest, a_different_configuration_is_refused_with_both_values) {
  wire::Hello other = hello(Role::kEngine, 1, 1);
  other.config = {{"dtype", "float32"}};
  const wire::Refuse no = refusal(other);
  EXPECT_TRUE(no.is_final);
  EXPECT_EQ(
      no.reason,
      "configuration differs in --dtype: rank 1 on node 'front' has 'float32', the coordinator "
      "has 'bfloat16'; start all with the same value");
}

TEST_F(ViewStateTest, engines_agree_on_what_the_coordinator_does_not_know) {
  wire::Hello first = hello(Role::kEngine, 0, 1), second = hello(Role::kEngine, 1, 2);
  first.config.push_back({"layers", "12"});
  second.config.push_back({"layers", "24"});
  ASSERT_TRUE(join(first));
  EXPECT_NE(refusal(second).reason.find("the rank that came first has '12'"), std::string::npos);
  state_.on_leave(engine(0, 1), "done");
  EXPECT_TRUE(join(second));  // Nobody is left who has 12.
}

TEST_F(ViewStateTest, engines_of_other_instructions_are_refused_and_front_ends_are_not) {
  wire::Hello first = hello(Role::kEngine, 0, 1), second = hello(Role::kEngine, 1, 2);
  first.config.push_back({"cpu-kernels", "amx"});
  second.config.push_back({"cpu-kernels", "avx512"});
  ASSERT_TRUE(join(hello(Role::kApiServer, 0, 3)));
  ASSERT_TRUE(join(first));
  EXPECT_EQ(refusal(second).reason,
            "configuration differs in --cpu-kernels: rank 1 on node 'front' has 'avx512', the rank "
            "that came first has 'amx'; bits depend on it: start all with one set that every CPU "
            "has, as --cpu-kernels avx512");
}

TEST_F(ViewStateTest, a_rank_has_one_life_until_its_lease_ends) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  const wire::Refuse no = refusal(hello(Role::kEngine, 2, 5));
  EXPECT_FALSE(no.is_final);
  EXPECT_EQ(no.reason,
            "rank 2 is held by process 4001 on node 'front', which is alive; this is process 4005 "
            "on node 'front'");
  const auto view = after(seconds(3));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members.at(0).state, MemberState::kLost);
  EXPECT_EQ(view->members.at(0).reason, "silent for 3000 ms");
  EXPECT_TRUE(join(hello(Role::kEngine, 2, 5)));
}

TEST_F(ViewStateTest, two_that_live_for_a_lease_with_one_rank_are_a_mistake) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  const wire::MemberKey first{Role::kEngine, 2, Incarnation{1}};
  EXPECT_FALSE(refusal(hello(Role::kEngine, 2, 5)).is_final);
  (void)after(seconds(2));
  ASSERT_TRUE(state_.on_heard(now_, first));
  EXPECT_FALSE(refusal(hello(Role::kEngine, 2, 5)).is_final);
  (void)after(seconds(2));
  ASSERT_TRUE(state_.on_heard(now_, first));
  const wire::Refuse no = refusal(hello(Role::kEngine, 2, 5));
  EXPECT_TRUE(no.is_final);
  EXPECT_NE(no.reason.find("--data-parallel-start-rank"), std::string::npos);
  EXPECT_FALSE(refusal(hello(Role::kEngine, 2, 6)).is_final);
}

TEST_F(ViewStateTest, a_successor_counts_as_a_restart_and_keeps_the_reason) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  state_.on_rank_report({.engine = EngineId{2},
                         .incarnation = Incarnation{1},
                         .reason = "killed by signal 9 (SIGKILL)",
                         .restarts = 1});
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 5)));  // At once: the node agent saw the old one die.
  const auto view = state_.tick(now_);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members.at(0).incarnation, Incarnation{5});
  EXPECT_EQ(view->members.at(0).restarts, 1u);
  EXPECT_EQ(view->members.at(0).reason, "killed by signal 9 (SIGKILL)");
}

TEST_F(ViewStateTest, a_rank_that_said_why_it_left_is_believed) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  state_.on_leave(engine(2, 1), "worker 0 was killed");
  state_.on_rank_report({.engine = EngineId{2},
                         .incarnation = Incarnation{1},
                         .reason = "exit code 1",
                         .restarts = 1});
  const auto view = state_.tick(now_);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members.at(0).reason, "left: worker 0 was killed");
  EXPECT_EQ(view->members.at(0).restarts, 1u);
}

TEST_F(ViewStateTest, a_report_on_an_older_life_does_not_touch_the_new_one) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 5)));
  state_.on_rank_report({.engine = EngineId{2}, .incarnation = Incarnation{1}, .reason = "old"});
  EXPECT_TRUE(state_.is_live(engine(2, 5)));
}

TEST_F(ViewStateTest, an_api_server_gives_way_to_its_successor_of_the_same_launch) {
  ASSERT_TRUE(join(hello(Role::kApiServer, 0, 1)));
  EXPECT_TRUE(join(hello(Role::kApiServer, 0, 2)));
  EXPECT_FALSE(state_.is_live({Role::kApiServer, 0, Incarnation{1}}));
  wire::Hello second_launch = hello(Role::kApiServer, 0, 3);
  second_launch.launch = LaunchId{2};  // On the same host, or on one of the same name.
  EXPECT_FALSE(refusal(second_launch).is_final);
}

TEST_F(ViewStateTest, a_node_started_twice_is_told_to_end_while_the_first_lives) {
  ASSERT_TRUE(join(hello(Role::kNodeAgent, 0, 1)));
  wire::Hello second_launch = hello(Role::kNodeAgent, 0, 2);
  second_launch.launch = LaunchId{2};
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(refusal(second_launch).is_final) << i;
    (void)after(seconds(1));
    keep_alive({Role::kNodeAgent, 0, Incarnation{1}}, MemberState::kReady, 1);
  }
  EXPECT_TRUE(refusal(second_launch).is_final);
}

TEST_F(ViewStateTest, a_hello_said_twice_changes_nothing) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  state_.on_ready(now_, engine(0, 1), {.block_count = 8});
  ASSERT_TRUE(state_.tick(now_));
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  EXPECT_FALSE(after(milliseconds(100)));
}

TEST_F(ViewStateTest, signs_of_life_keep_a_member) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  state_.on_ready(now_, engine(0, 1), {});
  ASSERT_TRUE(state_.tick(now_));
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(after(seconds(2)));
    EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kReady, 1), KeepAliveReply::kAlive);
  }
}

TEST_F(ViewStateTest, a_member_that_lags_is_told_so) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  ASSERT_TRUE(state_.tick(now_));
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kStarting, 0), KeepAliveReply::kBehind);
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kStarting, 1), KeepAliveReply::kAlive);
}

TEST_F(ViewStateTest, a_lost_or_strange_member_must_say_hello) {
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kReady), KeepAliveReply::kUnknown);
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  after(seconds(4));
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kReady), KeepAliveReply::kUnknown);
  EXPECT_TRUE(join(hello(Role::kEngine, 0, 1)));
}

TEST_F(ViewStateTest, a_ready_message_that_was_lost_is_asked_for_again) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kReady), KeepAliveReply::kUnknown);
}

TEST_F(ViewStateTest, draining_is_said_with_the_sign_of_life) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  state_.on_ready(now_, engine(0, 1), {});
  (void)keep_alive(engine(0, 1), MemberState::kDraining);
  EXPECT_EQ(state_.tick(now_)->members.at(0).state, MemberState::kDraining);
}

TEST_F(ViewStateTest, a_successor_coordinator_goes_above_every_epoch_seen_and_waits_a_lease) {
  wire::Hello veteran = hello(Role::kEngine, 0, 1), other = hello(Role::kEngine, 1, 2);
  veteran.epoch_seen = Epoch{41};
  other.epoch_seen = Epoch{40};
  ASSERT_TRUE(join(veteran));
  EXPECT_FALSE(state_.tick(now_));
  now_ += seconds(1);
  EXPECT_FALSE(state_.tick(now_));
  ASSERT_TRUE(join(other));
  now_ += seconds(1);
  EXPECT_FALSE(state_.tick(now_));
  EXPECT_EQ(keep_alive(engine(0, 1), MemberState::kStarting, 41), KeepAliveReply::kAlive);
  now_ += seconds(1);
  const auto view = state_.tick(now_);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->epoch, Epoch{42});
  EXPECT_EQ(view->members.size(), 2u);
}

TEST_F(ViewStateTest, a_coordinator_that_was_frozen_gives_everyone_the_missed_time) {
  ASSERT_TRUE(join(hello(Role::kEngine, 0, 1)));
  ASSERT_TRUE(state_.tick(now_));
  now_ += seconds(60);
  EXPECT_FALSE(state_.tick(now_));
  EXPECT_TRUE(state_.is_live(engine(0, 1)));
  EXPECT_TRUE(after(seconds(3)));
  EXPECT_FALSE(state_.is_live(engine(0, 1)));
}

// Else a dead life looks as if it had been heard since, and its successor is refused for good.
TEST_F(ViewStateTest, the_missed_time_counts_for_who_waits_for_a_place_too) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  ASSERT_TRUE(state_.tick(now_));
  EXPECT_FALSE(refusal(hello(Role::kEngine, 2, 5)).is_final);
  now_ += seconds(60);
  EXPECT_FALSE(state_.tick(now_));
  EXPECT_FALSE(refusal(hello(Role::kEngine, 2, 5)).is_final);
  EXPECT_TRUE(after(seconds(3)));
  EXPECT_TRUE(join(hello(Role::kEngine, 2, 5)));
}

TEST_F(ViewStateTest, who_lags_gets_the_view_once_in_half_a_lease) {
  ASSERT_TRUE(join(hello(Role::kEngine, 2, 1)));
  (void)after(milliseconds(20));
  ASSERT_GT(state_.published().epoch, Epoch{0});
  const wire::MemberKey key{Role::kEngine, 2, Incarnation{1}};
  const wire::KeepAlive sign{.incarnation = Incarnation{1}, .state = MemberState::kStarting};
  EXPECT_EQ(state_.on_keep_alive(now_, key, sign), KeepAliveReply::kBehind);
  EXPECT_EQ(state_.on_keep_alive(now_, key, sign), KeepAliveReply::kAlive);
  (void)after(seconds(2));
  EXPECT_EQ(state_.on_keep_alive(now_, key, sign), KeepAliveReply::kBehind);
}

TEST_F(ViewStateTest, long_texts_of_a_peer_are_cut) {
  wire::Hello noisy = hello(Role::kEngine, 0, 1);
  noisy.node.assign(1 << 20, 'x');
  ASSERT_TRUE(join(noisy));
  EXPECT_EQ(state_.tick(now_)->members.at(0).node.size(), ViewState::kTextBytesMax);
}

}  // namespace
}  // namespace trireme::coordinator
