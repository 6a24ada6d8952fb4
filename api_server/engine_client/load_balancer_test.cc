// LoadBalancer: the lowest exact score wins, ties go round, nothing goes to who may not have it.
#include "api_server/engine_client/load_balancer.h"

#include <gtest/gtest.h>

#include <array>

namespace trireme::api {
namespace {

LoadBalancer with_engines(uint32_t count) {
  LoadBalancer balancer;
  for (uint32_t rank = 0; rank < count; ++rank) {
    balancer.reset(rank);
    balancer.set_eligible(rank, true);
  }
  return balancer;
}

TEST(LoadBalancer, nobody_is_chosen_when_nobody_may_have_it) {
  LoadBalancer balancer = with_engines(2);
  balancer.set_eligible(0, false);
  EXPECT_EQ(balancer.choose({1}), std::nullopt);
  EXPECT_EQ(LoadBalancer().choose(), std::nullopt);
}

TEST(LoadBalancer, what_is_sent_counts_as_waiting_until_the_engine_has_seen_it) {
  LoadBalancer balancer = with_engines(2);
  balancer.count_sent(0);
  EXPECT_EQ(balancer.score(0), 4u);
  balancer.update(0, {.running = 1}, 1);
  EXPECT_EQ(balancer.score(0), 1u);
}

TEST(LoadBalancer, a_burst_is_spread_evenly_without_any_news) {
  LoadBalancer balancer = with_engines(4);
  std::array<int, 4> sent{};
  for (int i = 0; i < 400; ++i) {
    const uint32_t rank = *balancer.choose();
    ++sent[rank];
    balancer.count_sent(rank);
  }
  EXPECT_EQ(sent, (std::array<int, 4>{100, 100, 100, 100}));
}

TEST(LoadBalancer, ties_go_round) {
  LoadBalancer balancer = with_engines(3);
  EXPECT_EQ(balancer.choose(), 0u);
  EXPECT_EQ(balancer.choose(), 1u);
  EXPECT_EQ(balancer.choose(), 2u);
  EXPECT_EQ(balancer.choose(), 0u);
}

TEST(LoadBalancer, a_waiting_request_weighs_four_running_ones) {
  LoadBalancer balancer = with_engines(2);
  balancer.update(0, {.waiting = 1}, 0);
  balancer.update(1, {.running = 3}, 0);
  EXPECT_EQ(balancer.choose(), 1u);
  balancer.update(1, {.running = 5}, 0);
  EXPECT_EQ(balancer.choose(), 0u);
}

TEST(LoadBalancer, an_engine_that_claims_more_than_was_sent_gains_nothing) {
  LoadBalancer balancer = with_engines(1);
  balancer.count_sent(0);
  balancer.update(0, {}, 1'000'000);
  EXPECT_EQ(balancer.score(0), 0u);
}

TEST(LoadBalancer, the_board_never_overwrites_later_news_of_the_engine_itself) {
  LoadBalancer balancer = with_engines(1);
  balancer.update(0, {.running = 7, .step = StepId{10}}, 0);
  balancer.update_from_board(0, {.running = 1, .step = StepId{9}});
  EXPECT_EQ(balancer.score(0), 7u);
  balancer.update_from_board(0, {.running = 2, .step = StepId{11}});
  EXPECT_EQ(balancer.score(0), 2u);
}

}  // namespace
}  // namespace trireme::api
