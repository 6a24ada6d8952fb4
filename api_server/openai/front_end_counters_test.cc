// FrontEndCounters: as words and back, and how the numbers of several front ends become one page.
#include "api_server/openai/front_end_counters.h"

#include <gtest/gtest.h>

#include "api_server/counters/counter_board.h"

namespace trireme::api {
namespace {

FrontEndCounters some(uint64_t n) {
  FrontEndCounters counters;
  counters.metrics.generation_tokens_total = n;
  counters.metrics.replies[200] = 2 * n;
  counters.metrics.ttft_seconds.observe(0.5 * static_cast<double>(n));
  counters.http.connections_open = n;
  counters.requests_open = n;
  counters.engines.resize(2);
  counters.engines[1] = {.incarnation = Incarnation{9}, .routed = n, .lost = 1};
  counters.engines[1].stats.step = StepId{n};
  counters.engines[1].stats.kv_usage = 0.25F;
  counters.engines[1].stats.prefix_hit_tokens = 100 + n;
  counters.engines[1].shm = {.steps = {.messages = n}, .results = {.reader_parks = 10 * n}};
  return counters;
}

std::string page_of(const Histogram& histogram) {
  std::string page;
  histogram.append(page, "h", "");
  return page;
}

TEST(FrontEndCounters, words_and_back_are_the_same) {
  const FrontEndCounters counters = some(7);
  const auto words = counters.to_words(CounterBoard::words_for(2));
  const FrontEndCounters back = FrontEndCounters::from_words(words);
  EXPECT_EQ(back.to_words(CounterBoard::words_for(2)), words);
  EXPECT_EQ(back.metrics.replies[200], 14u);
  EXPECT_EQ(page_of(back.metrics.ttft_seconds), page_of(counters.metrics.ttft_seconds));
  EXPECT_EQ(back.engines[1].stats, counters.engines[1].stats);
  EXPECT_EQ(back.engines[1].shm, counters.engines[1].shm);
}

TEST(FrontEndCounters, the_fixed_part_of_a_slot_has_room_for_all_but_the_engines) {
  EXPECT_LE(FrontEndCounters().to_words(0).size(), CounterBoard::kFixedWords);
}

TEST(FrontEndCounters, engines_that_do_not_fit_are_left_out) {
  const std::size_t fixed = FrontEndCounters().to_words(0).size();
  const auto words = some(1).to_words(fixed + CounterBoard::kWordsPerEngine);
  EXPECT_EQ(FrontEndCounters::from_words(words).engines.size(), 1u);
  EXPECT_TRUE(FrontEndCounters::from_words({}).engines.empty());
}

TEST(FrontEndCounters, counts_and_gauges_of_two_front_ends_are_added) {
  FrontEndCounters sum = some(3);
  sum.add(some(4), /*is_alive=*/true);
  EXPECT_EQ(sum.metrics.generation_tokens_total, 7u);
  EXPECT_EQ(sum.metrics.replies[200], 14u);
  EXPECT_NE(page_of(sum.metrics.ttft_seconds).find("h_sum{} 3.5\nh_count{} 2"), std::string::npos);
  EXPECT_EQ(sum.http.connections_open, 7u);
  EXPECT_EQ(sum.requests_open, 7u);
  EXPECT_EQ(sum.engines[1].routed, 7u);
  EXPECT_EQ(sum.engines[1].lost, 1u);  // Both saw the same loss.
}

TEST(FrontEndCounters, an_earlier_life_leaves_its_counts_and_no_gauges) {
  FrontEndCounters sum = some(3);
  sum.add(some(4), /*is_alive=*/false);
  EXPECT_EQ(sum.metrics.generation_tokens_total, 7u);
  EXPECT_EQ(sum.requests_open, 3u);
  EXPECT_EQ(sum.http.connections_open, 3u);
  EXPECT_EQ(sum.engines[1].lost, 2u);
}

TEST(FrontEndCounters, an_engine_is_shown_as_who_heard_it_last_saw_it) {
  FrontEndCounters sum = some(3);
  sum.add(some(5), /*is_alive=*/true);
  EXPECT_EQ(sum.engines[1].stats.prefix_hit_tokens, 105u);
  sum.add(some(4), /*is_alive=*/true);
  EXPECT_EQ(sum.engines[1].stats.prefix_hit_tokens, 105u);
  FrontEndCounters stale = some(900);
  stale.engines[1].incarnation = Incarnation{8};
  sum.add(stale, /*is_alive=*/true);
  EXPECT_EQ(sum.engines[1].stats.prefix_hit_tokens, 105u);
  EXPECT_EQ(sum.engines[1].shm.results.reader_parks, 50u);
}

}  // namespace
}  // namespace trireme::api
