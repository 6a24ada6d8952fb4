#include "api_server/load_lines.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

using namespace std::chrono_literals;
using Rows = std::vector<FrontEndCounters::EngineRow>;

constexpr Instant kStart = Instant(100s);

FrontEndCounters::EngineRow engine(uint64_t life, wire::EngineStats stats = {}) {
  return {.incarnation = Incarnation{life}, .stats = stats};
}

TEST(LoadLines, busy_engine_is_told_of_as_the_peer_does) {
  LoadLines lines(/*is_aggregated=*/false, kStart);
  EXPECT_TRUE(lines.next(Rows{engine(1)}, kStart).empty());
  const Rows busy = {engine(1, {.waiting = 1,
                                .running = 4,
                                .kv_usage = 0.012F,
                                .prefix_query_tokens = 100,
                                .prefix_hit_tokens = 40,
                                .prompt_tokens = 214,
                                .generation_tokens = 3100})};
  EXPECT_TRUE(lines.next(busy, kStart + 9s).empty());
  EXPECT_EQ(lines.next(busy, kStart + 10s),
            std::vector<std::string>{
                "Engine 000: Avg prompt throughput: 21.4 tokens/s, Avg generation throughput: "
                "310.0 tokens/s, Running: 4 reqs, Waiting: 1 reqs, GPU KV cache usage: 1.2%, "
                "Prefix cache hit rate: 40.0%"});
}

TEST(LoadLines, hits_of_offloaded_blocks_are_told_where_there_are_some) {
  LoadLines lines(/*is_aggregated=*/false, kStart);
  (void)lines.next(Rows{engine(1)}, kStart);
  const Rows busy = {
      engine(1, {.generation_tokens = 10, .store_query_tokens = 80, .store_hit_tokens = 20})};
  const auto told = lines.next(busy, kStart + 10s);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(
      told[0].ends_with("Prefix cache hit rate: 0.0%, External prefix cache hit rate: 25.0%"));
}

TEST(LoadLines, idle_engine_is_told_of_once_more_and_then_no_more) {
  LoadLines lines(/*is_aggregated=*/false, kStart);
  (void)lines.next(Rows{engine(1), engine(2)}, kStart);
  const Rows done = {engine(1), engine(2, {.generation_tokens = 50})};
  EXPECT_EQ(lines.next(done, kStart + 10s).size(), 1u);
  const auto last = lines.next(done, kStart + 20s);
  ASSERT_EQ(last.size(), 1u);
  EXPECT_TRUE(last[0].starts_with("Engine 001: Avg prompt throughput: 0.0 tokens/s"));
  EXPECT_TRUE(lines.next(done, kStart + 30s).empty());
}

TEST(LoadLines, new_life_of_an_engine_begins_at_what_it_says_first) {
  LoadLines lines(/*is_aggregated=*/false, kStart);
  (void)lines.next(Rows{engine(1, {.generation_tokens = 1000})}, kStart);
  (void)lines.next(Rows{engine(2, {.generation_tokens = 7})}, kStart + 5s);
  EXPECT_TRUE(lines.next(Rows{engine(2, {.generation_tokens = 7})}, kStart + 10s).empty());
}

TEST(LoadLines, one_line_for_all_engines_adds_them_up) {
  LoadLines lines(/*is_aggregated=*/true, kStart);
  (void)lines.next(Rows{engine(1), engine(2)}, kStart);
  const auto told = lines.next(
      Rows{engine(1, {.running = 1, .kv_usage = 0.5F, .generation_tokens = 100}),
           engine(2, {.running = 2, .kv_usage = 0.25F, .generation_tokens = 200}), engine(0)},
      kStart + 10s);
  EXPECT_EQ(told, std::vector<std::string>{
                      "2 Engines Aggregated: Avg prompt throughput: 0.0 tokens/s, Avg generation "
                      "throughput: 30.0 tokens/s, Running: 3 reqs, Waiting: 0 reqs, GPU KV cache "
                      "usage: 37.5%, Prefix cache hit rate: 0.0%"});
}

}  // namespace
}  // namespace trireme::api
