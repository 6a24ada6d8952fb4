// The lockstep protocol in the simulator (cli/simulate/lockstep_cluster.h says what must hold).
// A failing seed is printed; LOCKSTEP_SIM_SEED=<seed> runs it alone and prints its history,
// LOCKSTEP_SIM_SEEDS=<n> runs more.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <vector>

#include "cli/simulate/lockstep_cluster.h"

namespace trireme::sim {
namespace {

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

LockstepOptions options_of(uint64_t seed) {
  return {.seed = seed, .rank_count = 1 + static_cast<uint32_t>(seed % 5)};
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 2'000;
#else
constexpr uint64_t kSeeds = 10'000;
#endif

// Each thread takes the next seed, until one fails.
LockstepOutcome simulate_seeds(uint64_t seeds) {
  std::atomic<uint64_t> next{0};
  std::atomic<bool> has_failed{false};
  std::vector<LockstepOutcome> totals(std::max(1U, std::thread::hardware_concurrency()));
  std::vector<std::jthread> threads;
  for (LockstepOutcome& total : totals) {
    threads.emplace_back([&] {
      for (uint64_t seed = next++; seed < seeds && !has_failed; seed = next++) {
        const LockstepOutcome outcome = simulate_lockstep(options_of(seed));
        EXPECT_EQ(outcome.failure, "") << "seed " << seed;
        if (!outcome.failure.empty()) has_failed = true;
        total.steps += outcome.steps;
        total.dummy_steps += outcome.dummy_steps;
        total.abandoned_steps += outcome.abandoned_steps;
      }
    });
  }
  threads.clear();
  LockstepOutcome all;
  for (const LockstepOutcome& total : totals) {
    all.steps += total.steps;
    all.dummy_steps += total.dummy_steps;
    all.abandoned_steps += total.abandoned_steps;
  }
  return all;
}

TEST(LockstepSimulation, nothing_is_stranded_for_every_seed) {
  if (std::getenv("LOCKSTEP_SIM_SEED") != nullptr) {
    LockstepOptions options = options_of(number_from("LOCKSTEP_SIM_SEED", 0));
    options.keeps_history = true;
    const LockstepOutcome outcome = simulate_lockstep(options);
    for (const std::string& line : outcome.history) std::cout << line << '\n';
    EXPECT_EQ(outcome.failure, "");
    return;
  }
  const uint64_t seeds = number_from("LOCKSTEP_SIM_SEEDS", kSeeds);
  const LockstepOutcome total = simulate_seeds(seeds);
  // That the faults meet the protocol at work.
  EXPECT_GT(total.steps, seeds * 10);
  EXPECT_GT(total.dummy_steps, seeds);
  EXPECT_GT(total.abandoned_steps, seeds / 10);
}

TEST(LockstepSimulation, without_faults_no_step_is_broken_off) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    LockstepOptions options = options_of(seed);
    options.has_faults = false;
    const LockstepOutcome outcome = simulate_lockstep(options);
    ASSERT_EQ(outcome.failure, "") << "seed " << seed;
    ASSERT_EQ(outcome.abandoned_steps, 0u) << "seed " << seed;
    ASSERT_EQ(outcome.left_out, 0u) << "seed " << seed;
  }
}

TEST(LockstepSimulation, where_two_ranks_do_not_hear_each_other_the_rest_goes_on_in_seconds) {
  constexpr uint64_t kCutSeeds = 200;
  uint64_t left_out = 0;
  for (uint64_t seed = 0; seed < kCutSeeds; ++seed) {
    const LockstepOutcome outcome = simulate_lockstep(
        {.seed = seed, .rank_count = 2 + static_cast<uint32_t>(seed % 4), .has_cut = true});
    ASSERT_EQ(outcome.failure, "") << "seed " << seed;
    left_out += outcome.left_out;
  }
  EXPECT_GT(left_out, kCutSeeds / 2);
}

TEST(LockstepSimulation,
     nobody_is_left_out_for_cuts_of_a_moment_while_the_coordinator_stands_still) {
  const auto simulate = [](uint64_t seed) {
    return simulate_lockstep(
        {.seed = seed, .rank_count = 2 + static_cast<uint32_t>(seed % 4), .has_flicker = true});
  };
  for (uint64_t seed = 0; seed < 1'000; ++seed) {
    ASSERT_EQ(simulate(seed).failure, "") << "seed " << seed;
  }
  // A rank's wave ends while it has no coordinator: nobody is told that it waits no longer.
  EXPECT_EQ(simulate(3'107).failure, "");
}

TEST(LockstepSimulation, the_same_seed_gives_the_same_history) {
  LockstepOptions options = options_of(3);
  options.keeps_history = true;
  EXPECT_EQ(simulate_lockstep(options).history, simulate_lockstep(options).history);
}

}  // namespace
}  // namespace trireme::sim
