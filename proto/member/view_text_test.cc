// Tests of the view in words.
#include "proto/member/view_text.h"

#include <gtest/gtest.h>

namespace trireme::member {
namespace {

using Lines = std::vector<std::string>;

wire::Member rank(uint32_t index, uint64_t life, wire::MemberState state) {
  return {.role = wire::Role::kEngine,
          .index = index,
          .incarnation = Incarnation{life},
          .state = state,
          .node = "a",
          .pid = 4700 + static_cast<uint32_t>(life)};
}

TEST(ViewText, a_rank_is_followed_through_its_life) {
  wire::View nobody, loading, ready, lost, again;
  loading.members = {rank(2, 1, wire::MemberState::kStarting)};
  ready.members = {rank(2, 1, wire::MemberState::kReady)};
  ready.members[0].ready = {.block_count = 2048, .block_tokens = 16, .worker_pids = {4712, 4713}};
  lost.members = {rank(2, 1, wire::MemberState::kLost)};
  lost.members[0].reason = "killed by signal 9 (SIGKILL)";
  again.members = {rank(2, 9, wire::MemberState::kStarting)};
  again.members[0].restarts = 1;
  EXPECT_EQ(changes_between(nobody, loading), Lines{"rank 2: loading (pid 4701)"});
  EXPECT_EQ(changes_between(loading, ready),
            Lines{"rank 2: ready (pid 4701, workers 4712 4713, 2048 blocks of 16 tokens)"});
  EXPECT_EQ(changes_between(ready, lost), Lines{"rank 2: lost: killed by signal 9 (SIGKILL)"});
  EXPECT_EQ(changes_between(lost, again), Lines{"rank 2: loading (pid 4709, restart 1)"});
}

TEST(ViewText, a_rank_that_left_is_not_called_lost) {
  wire::View nobody, left;
  left.members = {rank(2, 1, wire::MemberState::kLost)};
  left.members[0].reason = "left: stopped";
  EXPECT_EQ(changes_between(nobody, left), Lines{"rank 2: left: stopped"});
}

TEST(ViewText, what_stays_is_not_told_again) {
  wire::View view;
  view.members = {rank(0, 1, wire::MemberState::kReady)};
  EXPECT_EQ(changes_between(view, view), Lines{});
}

}  // namespace
}  // namespace trireme::member
