// Goal: a sequence's logits are the same bits alone, in any batch, at any chunking of its prompt
// and in any blocks of the KV memory. Method: random schedules of several sequences against each
// sequence alone, equality of bits.
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/numerics/model_for_test.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kSequences = 5;
constexpr uint32_t kBlockTokens = 16;
constexpr uint32_t kSequenceBlocks = 3;

class Invariance : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

INSTANTIATE_TEST_SUITE_P(All, Invariance,
                         testing::Combine(testing::ValuesIn(golden_names()),
                                          testing::Values("float32", "bfloat16")),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param);
                         });

std::vector<int32_t> random_tokens(Random& random, uint32_t count) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(60));
  return tokens;
}

TEST_P(Invariance, chunking_of_the_prompt_changes_no_bit) {
  const auto& [name, dtype] = GetParam();
  for (const char* kv_cache_dtype : {"auto", "int8"}) {
    const SoloModel model(name, dtype, kSequenceBlocks + 1, kv_cache_dtype);
    Random random(1);
    const auto tokens = random_tokens(random, 45);
    const auto whole = run_sequence(*model, tokens, 45);
    for (const uint32_t chunk : {1U, 3U, 16U, 44U}) {
      EXPECT_EQ(run_sequence(*model, tokens, chunk), whole)
          << "chunks of " << chunk << ", KV " << kv_cache_dtype;
    }
  }
}

struct Sequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> blocks;
  std::vector<float> logits;
  uint32_t done = 0;
};

// Some of the sequences, each with a random next chunk: none, one token or many.
std::vector<SequencePart> pick_step(std::vector<Sequence>& sequences, Random& random) {
  std::vector<SequencePart> parts;
  for (Sequence& sequence : sequences) {
    const auto left = static_cast<uint32_t>(sequence.tokens.size()) - sequence.done;
    if (left == 0 || random.below(3) == 0) continue;
    const uint32_t wanted = random.below(2) == 0 ? 1 : 1 + static_cast<uint32_t>(random.below(20));
    parts.push_back({sequence.tokens, sequence.blocks, sequence.done, std::min(wanted, left)});
  }
  return parts;
}

void run_schedule(Model& model, std::vector<Sequence>& sequences, Random& random) {
  const auto is_done = [](const Sequence& sequence) {
    return sequence.done == sequence.tokens.size();
  };
  while (!std::ranges::all_of(sequences, is_done)) {
    const auto parts = pick_step(sequences, random);
    const auto logits = run_step(model, parts);
    ASSERT_TRUE(logits.ok()) << logits.status();
    const float* from = logits->data();
    for (const SequencePart& part : parts) {
      auto& sequence = *std::ranges::find_if(sequences, [&](const Sequence& candidate) {
        return candidate.tokens.data() == part.tokens.data();
      });
      const std::size_t count = std::size_t{part.count} * model.vocabulary_size();
      sequence.logits.insert(sequence.logits.end(), from, from + count);
      from += count;
      sequence.done += part.count;
    }
  }
}

TEST_P(Invariance, company_and_blocks_change_no_bit) {
  const auto& [name, dtype] = GetParam();
  const uint32_t block_count = kSequences * kSequenceBlocks;
  const SoloModel model(name, dtype, block_count);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    Random random(seed);
    std::vector<int32_t> free_blocks(block_count);
    std::iota(free_blocks.begin(), free_blocks.end(), 0);
    for (uint32_t i = block_count; i > 1; --i) {
      std::swap(free_blocks[i - 1], free_blocks[random.below(i)]);
    }
    std::vector<Sequence> sequences(kSequences);
    std::vector<std::vector<float>> alone;
    for (uint32_t i = 0; i < kSequences; ++i) {
      const auto count = 1 + static_cast<uint32_t>(random.below(kSequenceBlocks * kBlockTokens));
      sequences[i].tokens = random_tokens(random, count);
      const auto first = free_blocks.begin() + i * kSequenceBlocks;
      sequences[i].blocks.assign(first, first + kSequenceBlocks);
      alone.push_back(run_sequence(*model, sequences[i].tokens, count));
    }
    run_schedule(*model, sequences, random);
    for (uint32_t i = 0; i < kSequences; ++i) {
      EXPECT_EQ(sequences[i].logits, alone[i]) << "seed " << seed << ", sequence " << i;
    }
  }
}

}  // namespace
}  // namespace trireme::worker
