// Builds StepInputs line by line, as an engine would.
#pragma once

#include <utility>
#include <vector>

#include "proto/step.h"

namespace trireme::worker {

struct StepForTest {
  wire::StepInput input;

  StepForTest& arrive(uint32_t slot, std::vector<int32_t> tokens, std::vector<int32_t> blocks,
                      wire::SamplingParams sampling = {}) {
    const auto prompt_count = static_cast<uint32_t>(tokens.size());
    input.new_sequences.push_back({.slot = SlotId{slot},
                                   .token_ids = std::move(tokens),
                                   .prompt_count = prompt_count,
                                   .block_ids = std::move(blocks),
                                   .sampling = std::move(sampling)});
    return *this;
  }

  StepForTest& row(uint32_t slot, uint32_t start, uint32_t count, bool samples = true) {
    input.row_slot.push_back(slot);
    input.row_start.push_back(start);
    input.row_count.push_back(count);
    input.row_flags.push_back(samples ? wire::kRowSamples : 0);
    input.row_known_start.push_back(0);
    input.row_known_count.push_back(0);
    input.row_block_count.push_back(0);
    if (!input.row_draft_count.empty()) input.row_draft_count.push_back(0);
    return *this;
  }

  // Of the row added last.
  StepForTest& row_known(uint32_t start, const std::vector<int32_t>& tokens) {
    input.row_known_start.back() = start;
    input.row_known_count.back() = static_cast<uint32_t>(tokens.size());
    input.known_tokens.insert(input.known_tokens.end(), tokens.begin(), tokens.end());
    return *this;
  }
  StepForTest& row_drafts(const std::vector<int32_t>& tokens) {
    input.row_draft_count.resize(input.row_slot.size());
    input.row_draft_count.back() = static_cast<uint32_t>(tokens.size());
    input.draft_tokens.insert(input.draft_tokens.end(), tokens.begin(), tokens.end());
    return *this;
  }
  // So many, without the tokens.
  StepForTest& row_guesses(uint32_t count) {
    input.row_draft_count.resize(input.row_slot.size());
    input.row_draft_count.back() = count;
    return *this;
  }
  StepForTest& row_blocks(const std::vector<int32_t>& blocks) {
    input.row_block_count.back() = static_cast<uint32_t>(blocks.size());
    input.blocks.insert(input.blocks.end(), blocks.begin(), blocks.end());
    return *this;
  }
};

}  // namespace trireme::worker
