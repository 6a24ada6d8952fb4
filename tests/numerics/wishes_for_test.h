// Random requests to data-parallel ranks, and what each of them is told alone.
#pragma once

#include "common/random.h"
#include "tests/numerics/wave_for_test.h"

namespace trireme::worker {

inline std::vector<int32_t> random_tokens(Random& random, uint32_t count) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(60));
  return tokens;
}

// Some are described, so that steps take several forwards; some are sampled; they come and go.
inline std::vector<Wish> random_wishes(uint64_t seed, uint32_t count) {
  Random random(seed);
  std::vector<Wish> wishes;
  for (uint32_t i = 0; i < count; ++i) {
    Wish wish{.prompt = random_tokens(random, 1 + static_cast<uint32_t>(random.below(14))),
              .outputs = 1 + static_cast<uint32_t>(random.below(3)),
              .chunk = 3 + static_cast<uint32_t>(random.below(12)),
              .arrives_at = static_cast<uint32_t>(random.below(3))};
    wish.sampling.temperature = random.below(2) == 0 ? 0.0F : 1.0F;
    wish.sampling.seed = random.next();
    wish.sampling.logprobs = 2;
    if (random.below(2) == 0) wish.sampling.prompt_logprobs = 1;
    wishes.push_back(std::move(wish));
  }
  return wishes;
}

// Each wish alone, in a group of such a shape.
inline std::vector<Told> run_alone(RanksInStep& group, const std::vector<Wish>& wishes) {
  std::vector<Told> told;
  for (Wish wish : wishes) {
    wish.arrives_at = 0;
    std::vector<RankForTest> one;
    one.emplace_back(std::vector<Wish>{wish});
    group.run_all(one);
    told.push_back(one[0].told[0]);
  }
  return told;
}

struct Ranks {
  // `wishes` of each, seeded differently.
  Ranks(uint64_t seed, const std::vector<uint32_t>& counts) {
    for (const uint32_t count : counts) {
      wishes.push_back(random_wishes(++seed, count));
      ranks.emplace_back(wishes.back());
    }
  }
  void expect_as_alone(RanksInStep& group) const {
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      EXPECT_EQ(ranks[rank].told, run_alone(group, wishes[rank])) << "rank " << rank;
    }
  }
  std::vector<std::vector<Wish>> wishes;
  std::vector<RankForTest> ranks;
};

inline const RanksShape kAllInOne{.divides_experts = false};

}  // namespace trireme::worker
