#include "worker/sequence_table.h"

#include <numeric>

#include "worker/sampler.h"

namespace trireme::worker {
namespace {

template <typename... Args>
Status broken(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return Status(StatusCode::kInternal,
                "step breaks the protocol: " + absl::StrFormat(format, args...));
}

}  // namespace

Status SequenceTable::apply(const wire::StepInput& step) {
  TRIREME_RETURN_IF_ERROR(check_shape(step));
  ++step_count_;
  for (const uint32_t slot : step.freed_slots) {
    if (slot < slots_.size() && slots_[slot] != nullptr) slots_[slot]->is_live = false;
  }
  for (const wire::NewSequence& arrival : step.new_sequences) {
    TRIREME_RETURN_IF_ERROR(take_in(arrival));
  }
  std::span<const int32_t> known = step.known_tokens;
  std::span<const int32_t> blocks = step.blocks;
  for (std::size_t row = 0; row < step.row_slot.size(); ++row) {
    const uint32_t known_count = step.row_known_count[row];
    const uint32_t block_count = step.row_block_count[row];
    TRIREME_RETURN_IF_ERROR(
        apply_row(step, row, known.first(known_count), blocks.first(block_count)));
    known = known.subspan(known_count);
    blocks = blocks.subspan(block_count);
  }
  return absl::OkStatus();
}

Status SequenceTable::check_shape(const wire::StepInput& step) const {
  const std::size_t rows = step.row_slot.size();
  for (const std::size_t size :
       {step.row_start.size(), step.row_count.size(), step.row_flags.size(),
        step.row_known_start.size(), step.row_known_count.size(), step.row_block_count.size()}) {
    if (size != rows) return broken("row arrays have %u and %u entries", rows, size);
  }
  const auto sum = [](const std::vector<uint32_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  };
  if (sum(step.row_known_count) != step.known_tokens.size()) {
    return broken("rows know %u tokens, %u are there", sum(step.row_known_count),
                  step.known_tokens.size());
  }
  if (sum(step.row_block_count) != step.blocks.size()) {
    return broken("rows get %u blocks, %u are there", sum(step.row_block_count),
                  step.blocks.size());
  }
  if (!step.row_draft_count.empty() && step.row_draft_count.size() != rows) {
    return broken("row arrays have %u and %u entries", rows, step.row_draft_count.size());
  }
  const bool are_guessed_here = limits_.has_draft_model && step.draft_tokens.empty();
  if (!are_guessed_here && sum(step.row_draft_count) != step.draft_tokens.size()) {
    return broken("rows get %u drafts, %u are there", sum(step.row_draft_count),
                  step.draft_tokens.size());
  }
  return check_tokens(step.draft_tokens);
}

Status SequenceTable::check_tokens(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<uint32_t>(token) >= limits_.vocabulary_size) {
      return broken("token %d is not in the vocabulary of %u", token, limits_.vocabulary_size);
    }
  }
  return absl::OkStatus();
}

Status SequenceTable::check_blocks(std::span<const int32_t> blocks) const {
  for (const int32_t block : blocks) {
    if (block < 0 || static_cast<uint32_t>(block) >= limits_.block_count) {
      return broken("block %d is not one of %u", block, limits_.block_count);
    }
  }
  return absl::OkStatus();
}

Status SequenceTable::take_in(const wire::NewSequence& arrival) {
  const uint32_t slot = arrival.slot.value;
  if (slot >= kSlotsMax) return broken("slot %u is over the limit of %u", slot, kSlotsMax);
  if (arrival.prompt_count > arrival.token_ids.size()) {
    return broken("slot %u: prompt of %u tokens, but %u tokens", slot, arrival.prompt_count,
                  arrival.token_ids.size());
  }
  TRIREME_RETURN_IF_ERROR(check_tokens(arrival.token_ids));
  TRIREME_RETURN_IF_ERROR(check_blocks(arrival.block_ids));
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  if (slots_[slot] == nullptr) slots_[slot] = std::make_unique<Sequence>();
  Sequence& sequence = *slots_[slot];
  sequence.is_live = true;
  sequence.prompt_count = arrival.prompt_count;
  sequence.sampling = arrival.sampling;
  sequence.blocks = arrival.block_ids;
  sequence.tokens.clear();
  sequence.counts.clear();
  for (const int32_t token : arrival.token_ids) push(sequence, token);
  return absl::OkStatus();
}

void SequenceTable::push(Sequence& sequence, int32_t token) {
  if (needs_token_counts(sequence.sampling)) {
    const bool is_prompt = sequence.tokens.size() < sequence.prompt_count;
    is_prompt ? sequence.counts.add_prompt(token) : sequence.counts.add_output(token);
  }
  sequence.tokens.push_back(token);
}

void SequenceTable::append(uint32_t slot, int32_t token) {
  push(*slots_[slot], token < 0 ? 0 : token);
}

void SequenceTable::take_back(uint32_t slot, uint32_t count) {
  Sequence& sequence = *slots_[slot];
  for (; count > 0; --count) {
    if (needs_token_counts(sequence.sampling)) {
      sequence.counts.take_back_output(sequence.tokens.back());
    }
    sequence.tokens.pop_back();
  }
}

Status SequenceTable::extend(Sequence& sequence, uint32_t start, std::span<const int32_t> known) {
  TRIREME_RETURN_IF_ERROR(check_tokens(known));
  for (std::size_t i = 0; i < known.size(); ++i) {
    const std::size_t position = start + i;
    if (position > sequence.tokens.size()) {
      return broken("token known at %u, but only %u tokens before it", position,
                    sequence.tokens.size());
    }
    if (position == sequence.tokens.size()) {
      push(sequence, known[i]);
    } else if (sequence.tokens[position] != known[i]) {
      return broken("token %u is %d here, but %d in the engine: ranks have diverged", position,
                    sequence.tokens[position], known[i]);
    }
  }
  return absl::OkStatus();
}

Status SequenceTable::apply_row(const wire::StepInput& step, std::size_t row,
                                std::span<const int32_t> known, std::span<const int32_t> blocks) {
  const uint32_t slot = step.row_slot[row];
  if (slot >= slots_.size() || slots_[slot] == nullptr || !slots_[slot]->is_live) {
    return broken("row %u is of slot %u, which is empty", row, slot);
  }
  Sequence& sequence = *slots_[slot];
  const auto in_row = [&](const Status& status) {
    return annotate(status, absl::StrFormat("row %u, slot %u", row, slot));
  };
  if (sequence.last_step == step_count_) return in_row(broken("slot has two rows"));
  sequence.last_step = step_count_;
  TRIREME_RETURN_IF_ERROR(in_row(extend(sequence, step.row_known_start[row], known)));
  TRIREME_RETURN_IF_ERROR(in_row(check_blocks(blocks)));
  sequence.blocks.insert(sequence.blocks.end(), blocks.begin(), blocks.end());
  return in_row(check_row(step, row, sequence));
}

Status SequenceTable::check_row(const wire::StepInput& step, std::size_t row,
                                const Sequence& sequence) const {
  const uint64_t end = uint64_t{step.row_start[row]} + step.row_count[row];
  if (step.row_count[row] == 0) return broken("no tokens to compute");
  if (end > sequence.tokens.size()) {
    return broken("tokens [%u, %u) of %u", step.row_start[row], end, sequence.tokens.size());
  }
  const uint32_t drafts = step.row_draft_count.empty() ? 0 : step.row_draft_count[row];
  if (end + drafts > sequence.blocks.size() * limits_.block_tokens) {
    return broken("%u tokens in %u blocks of %u", end + drafts, sequence.blocks.size(),
                  limits_.block_tokens);
  }
  const bool samples = (step.row_flags[row] & wire::kRowSamples) != 0;
  if (samples && end != sequence.tokens.size()) {
    return broken("samples after token %u of %u", end, sequence.tokens.size());
  }
  if (drafts > 0 && (!samples || end < sequence.prompt_count)) {
    return broken("%u drafts, but its last token %u yields none", drafts, end);
  }
  return absl::OkStatus();
}

}  // namespace trireme::worker
