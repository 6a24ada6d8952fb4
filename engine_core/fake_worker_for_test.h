// FakeWorker: a worker whose next token is a hash of all tokens before it, with real KV memory:
// what it writes at a position names the whole prefix, and a row reads every position before its
// own. A wrong block table, a block shared too early or reused too late gives wrong tokens and an
// error. Drafts are computed and accepted as a real worker does, and guessed where the step has
// only their number. It has a store of blocks, which may lose some: what a failed load leaves in a
// block is wrong, and so is all that is computed on it; only the tokens tell then.
#pragma once

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/random.h"
#include "proto/step.h"

namespace trireme::engine {

inline constexpr int32_t kFakeVocabulary = 50;

inline float fake_vector(uint64_t prefix) { return static_cast<float>(mix64(prefix) % 4096); }

inline uint64_t fake_prefix(uint64_t before, int32_t token) {
  return mix64(before ^ (static_cast<uint64_t>(token) + 1));
}
inline uint64_t fake_prefix_of(const std::vector<int32_t>& tokens) {
  uint64_t prefix = 0;
  for (const int32_t token : tokens) prefix = fake_prefix(prefix, token);
  return prefix;
}
// `repeats`: mostly one of two tokens, so that looking up what came before often guesses right.
inline int32_t fake_next_token(uint64_t prefix, uint32_t bad_logits_one_in, bool repeats = false) {
  if (bad_logits_one_in > 0 && mix64(prefix ^ 0xBAD) % bad_logits_one_in == 0) {
    return wire::kBadLogits;
  }
  if (repeats && mix64(prefix ^ 0x5E) % 16 > 0) {
    return 10 + static_cast<int32_t>(mix64(prefix ^ 0x70CE) % 4 / 3);
  }
  return static_cast<int32_t>(mix64(prefix ^ 0x70CE) % kFakeVocabulary);
}

class FakeWorker {
 public:
  struct Config {
    uint32_t block_count;
    uint32_t block_tokens;
    bool remembers_samples = true;   // False: as a pipeline stage that does not sample.
    uint32_t bad_logits_one_in = 0;  // 0: never.
    bool repeats = false;
    uint32_t store_slot_count = 0;
    uint32_t store_fails_one_in = 0;  // Of saves and of loads; 0: never.
  };
  explicit FakeWorker(const Config& config)
      : config_(config),
        kv_(std::size_t{config.block_count} * config.block_tokens, 0),
        store_(config.store_slot_count) {}

  wire::StepResult execute(const wire::StepInput& step) {
    wire::StepResult result;
    result.step = step.step;
    move_blocks(step, result);
    for (const uint32_t slot : step.freed_slots) sequences_.erase(slot);
    for (const auto& sequence : step.new_sequences) sequences_[sequence.slot.value] = sequence;
    std::size_t known_at = 0;
    std::size_t block_at = 0;
    std::span<const int32_t> drafts = step.draft_tokens;
    for (std::size_t row = 0; row < step.row_slot.size(); ++row) {
      if (!sequences_.contains(step.row_slot[row])) {
        problem_ = "row of an empty slot";
        return result;
      }
      auto& sequence = sequences_[step.row_slot[row]];
      for (uint32_t i = 0; i < step.row_known_count[row]; ++i, ++known_at) {
        if (step.row_known_start[row] + i == sequence.token_ids.size()) {
          sequence.token_ids.push_back(step.known_tokens[known_at]);
        }
      }
      for (uint32_t i = 0; i < step.row_block_count[row]; ++i) {
        sequence.block_ids.push_back(step.blocks[block_at++]);
      }
      const uint32_t draft_count = step.row_draft_count.empty() ? 0 : step.row_draft_count[row];
      if (draft_count > 0 && step.draft_tokens.empty()) {
        const std::vector<int32_t> guessed = guess(sequence.token_ids, draft_count);
        run_row(step, static_cast<uint32_t>(row), sequence, guessed, result);
        const auto accepted = static_cast<long>(result.row_accepted.back());
        result.accepted_tokens.insert(result.accepted_tokens.end(), guessed.begin(),
                                      guessed.begin() + accepted);
        continue;
      }
      run_row(step, static_cast<uint32_t>(row), sequence, drafts.first(draft_count), result);
      drafts = drafts.subspan(draft_count);
    }
    if (!drafts.empty()) problem_ = "drafts of no row";
    return result;
  }

  // Empty while every step made sense.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  void lose_all_moves() { config_.store_fails_one_in = 1; }
  [[nodiscard]] uint64_t failed_loads() const { return failed_loads_; }

 private:
  void move_blocks(const wire::StepInput& step, wire::StepResult& result) {
    if (step.save_blocks.size() != step.save_slots.size() ||
        step.load_blocks.size() != step.load_slots.size()) {
      problem_ = "a move without a block or a slot";
      return;
    }
    for (std::size_t i = 0; i < step.save_blocks.size(); ++i) {
      std::vector<uint64_t>& stored = store_.at(step.save_slots[i]);
      const auto block = block_at(step.save_blocks[i]);
      stored.assign(block.begin(), block.end());
      if (!fails()) continue;
      stored.clear();
      result.lost_slots.push_back(step.save_slots[i]);
    }
    for (std::size_t i = 0; i < step.load_blocks.size(); ++i) {
      std::vector<uint64_t>& stored = store_.at(step.load_slots[i]);
      const auto block = block_at(step.load_blocks[i]);
      if (!stored.empty() && !fails()) {
        std::copy(stored.begin(), stored.end(), block.begin());
        continue;
      }
      if (config_.store_fails_one_in == 0) problem_ = "load of what was never saved";
      stored.clear();
      std::fill(block.begin(), block.end(), 0xBAD);
      result.lost_slots.push_back(step.load_slots[i]);
      ++result.failed_load_count;
      ++failed_loads_;
    }
  }

  // As a draft model that is wrong now and then.
  [[nodiscard]] std::vector<int32_t> guess(const std::vector<int32_t>& tokens,
                                           uint32_t count) const {
    std::vector<int32_t> guessed;
    uint64_t prefix = fake_prefix_of(tokens);
    for (uint32_t i = 0; i < count; ++i) {
      int32_t token = fake_next_token(prefix, 0, config_.repeats);
      if (mix64(prefix ^ 0x6E55) % 4 == 0) token = (token + 1) % kFakeVocabulary;
      guessed.push_back(token);
      prefix = fake_prefix(prefix, token);
    }
    return guessed;
  }

  bool fails() {
    if (config_.store_fails_one_in == 0) return false;
    return mix64(++move_count_) % config_.store_fails_one_in == 0;
  }

  std::span<uint64_t> block_at(int32_t block) {
    const std::size_t begin = static_cast<std::size_t>(block) * config_.block_tokens;
    return std::span(kv_).subspan(begin, config_.block_tokens);
  }

  // Until a draft is wrong, or all are right: then one more token comes after them.
  void run_row(const wire::StepInput& step, uint32_t row, wire::NewSequence& sequence,
               std::span<const int32_t> drafts, wire::StepResult& result) {
    result.row_token.push_back(wire::kNoToken);
    if (!step.row_draft_count.empty()) result.row_accepted.push_back(0);
    std::vector<int32_t> tokens = sequence.token_ids;
    tokens.insert(tokens.end(), drafts.begin(), drafts.end());
    const uint32_t end = step.row_start[row] + step.row_count[row];
    const auto all = end + static_cast<uint32_t>(drafts.size());
    const bool samples = (step.row_flags[row] & wire::kRowSamples) != 0;
    if (all > tokens.size() || step.row_count[row] == 0 || (samples && all != tokens.size()) ||
        (!samples && !drafts.empty())) {
      problem_ = "row over tokens that the worker does not have";
      return;
    }
    if (all > sequence.block_ids.size() * config_.block_tokens) {
      problem_ = "row beyond its block table";
      return;
    }
    if (sequence.sampling.prompt_logprobs >= 0) put_prompt_logprobs(step, row, sequence, result);
    uint64_t prefix = 0;
    bool is_open = true;  // No draft was wrong so far.
    for (uint32_t position = 0; position < all; ++position) {
      prefix = fake_prefix(prefix, tokens[position]);
      uint64_t& stored = at(sequence, position);
      if (position >= step.row_start[row]) stored = prefix;
      if (stored != prefix && failed_loads_ == 0) {
        problem_ = "KV of another prefix at position " + std::to_string(position);
      }
      prefix = stored;
      if (!samples || !is_open || position + 1 < end) continue;
      const int32_t token = fake_next_token(prefix, config_.bad_logits_one_in, config_.repeats);
      if (sequence.sampling.pooling != wire::Pooling::kNone) {
        if (token == wire::kBadLogits) {
          result.row_token.back() = token;
        } else {
          result.pooled.push_back({row, {fake_vector(prefix)}});
        }
        return;
      }
      // After bad logits any token will do: the row already made for it is thrown away.
      if (config_.remembers_samples) sequence.token_ids.push_back(std::max(token, 0));
      is_open = position + 1 < all && token == tokens[position + 1];
      if (is_open) {
        ++result.row_accepted.back();
      } else {
        result.row_token.back() = token;
      }
    }
  }

  void put_prompt_logprobs(const wire::StepInput& step, uint32_t row,
                           const wire::NewSequence& sequence, wire::StepResult& result) const {
    wire::RowLogprobs logprobs{.row = row};
    const uint32_t end = step.row_start[row] + step.row_count[row];
    for (uint32_t position = step.row_start[row]; position < end; ++position) {
      if (position + 1 >= sequence.prompt_count) break;
      logprobs.prompt.push_back({{sequence.token_ids[position + 1]}, {-1.0F}, 1});
    }
    result.logprobs.push_back(logprobs);
  }

  uint64_t& at(const wire::NewSequence& sequence, uint32_t position) {
    const auto block =
        static_cast<std::size_t>(sequence.block_ids[position / config_.block_tokens]);
    return kv_[block * config_.block_tokens + position % config_.block_tokens];
  }

  Config config_;
  std::vector<uint64_t> kv_;
  std::vector<std::vector<uint64_t>> store_;  // By slot; empty: nothing is there.
  uint64_t move_count_ = 0;
  uint64_t failed_loads_ = 0;
  std::map<uint32_t, wire::NewSequence> sequences_;
  std::string problem_;
};

}  // namespace trireme::engine
