#include "engine_core/executor/sim.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "common/random.h"

namespace trireme::engine {
namespace {

constexpr uint32_t kDefaultModelTokens = 32768;
constexpr uint32_t kDefaultBlocks = 65536;
constexpr std::size_t kPooledSize = 64;

bool contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

Status store_part(SimProfile& profile, std::string_view name, std::string_view value) {
  double number = 0;
  const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool is_number = failure == std::errc() && end == value.data() + value.size();
  if (!is_number || !(number >= 0) || number > 1e9) {
    return error(StatusCode::kInvalidArgument, "--sim-profile: %s='%s' is not a number in [0, 1e9]",
                 name, value);
  }
  if (name == "base_us") {
    profile.base_us = number;
  } else if (name == "prefill_us") {
    profile.prefill_us = number;
  } else if (name == "decode_us") {
    profile.decode_us = number;
  } else if (name == "vocab" && number >= 64) {
    profile.vocabulary = static_cast<uint32_t>(number);
  } else {
    return error(StatusCode::kInvalidArgument,
                 "--sim-profile: '%s=%s' is not one of base_us, prefill_us, decode_us, vocab (at "
                 "least 64)",
                 name, value);
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<SimProfile> SimProfile::parse(std::string_view text) {
  SimProfile profile;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      return error(StatusCode::kInvalidArgument, "--sim-profile: '%s' is not name=value", part);
    }
    TRIREME_RETURN_IF_ERROR(store_part(profile, part.substr(0, equals), part.substr(equals + 1)));
  }
  return profile;
}

SimExecutor::SimExecutor(const ServeOptions& options, const SimProfile& profile)
    : options_(options), profile_(profile) {}

StatusOr<KvCapacity> SimExecutor::start(Bell&, StopSignal&) {
  const uint32_t wanted = options_.model.model_tokens_max;
  const uint32_t blocks = options_.scheduler.block_count;
  return KvCapacity{.block_count = blocks > 0 ? blocks : kDefaultBlocks,
                    .model_tokens_max = wanted > 0 ? wanted : kDefaultModelTokens,
                    .has_experts = true};
}

Status SimExecutor::submit(const wire::StepInput& step, Instant now) {
  for (const uint32_t slot : step.freed_slots) sequences_.erase(slot);
  for (const auto& sequence : step.new_sequences) {
    auto& taken = sequences_[sequence.slot.value];
    taken.prompt_count = sequence.prompt_count;
    taken.sampling = sequence.sampling;
    if (sequence.sampling.prompt_logprobs >= 0) taken.token_ids = sequence.token_ids;
  }
  Pending pending;
  if (!spent_.empty()) {
    pending.result = std::move(spent_.back());
    spent_.pop_back();
  }
  pending.result.step = step.step;
  pending.result.row_token.clear();
  pending.result.logprobs.clear();
  pending.result.pooled.clear();
  double microseconds = profile_.base_us;
  for (uint32_t row = 0; row < step.row_slot.size(); ++row) {
    const uint32_t count = step.row_count[row];
    microseconds += count > 1 ? profile_.prefill_us * count : profile_.decode_us;
    const auto& sequence = sequences_[step.row_slot[row]];
    bool samples = (step.row_flags[row] & wire::kRowSamples) != 0;
    if (samples && sequence.sampling.pooling != wire::Pooling::kNone) {
      pending.result.pooled.push_back({row, std::vector<float>(kPooledSize, 1.0F)});
      samples = false;
    }
    pending.result.row_token.push_back(
        samples ? next_token(sequence.sampling, step.row_start[row] + count) : wire::kNoToken);
    put_logprobs(row, step, sequence, pending.result);
  }
  pending.result.compute_microseconds = static_cast<uint32_t>(microseconds);
  busy_until_ = std::max(now, busy_until_) +
                std::chrono::nanoseconds(static_cast<int64_t>(microseconds * 1000));
  pending.ready_at = busy_until_;
  pending_.push_back(std::move(pending));
  return absl::OkStatus();
}

StatusOr<bool> SimExecutor::try_collect(wire::StepResult& result, Instant now) {
  if (pending_.empty() || now < pending_.front().ready_at) return false;
  std::swap(result, pending_.front().result);
  spent_.push_back(std::move(pending_.front().result));
  pending_.pop_front();
  return true;
}

Instant SimExecutor::next_result_at() const {
  return pending_.empty() ? Instant::max() : pending_.front().ready_at;
}

int32_t SimExecutor::next_token(const wire::SamplingParams& sampling, uint32_t position) const {
  const auto& allowed = sampling.allowed_token_ids;
  const uint64_t choices = allowed.empty() ? profile_.vocabulary : allowed.size();
  const uint64_t hash = mix64(sampling.seed ^ mix64(position));
  int32_t token = 0;
  // Ends are few, so this ends soon; where all that is allowed ends the request, so be it.
  for (uint64_t i = 0; i < std::min<uint64_t>(choices, 64); ++i) {
    const uint64_t choice = (hash + i) % choices;
    token = allowed.empty() ? static_cast<int32_t>(choice) : allowed[choice];
    if (!contains(sampling.eos_token_ids, token) && !contains(sampling.stop_token_ids, token))
      break;
  }
  return token;
}

// The chosen token has probability 1/2, the k-th next one in the vocabulary half of what is left.
void SimExecutor::put_logprobs(uint32_t row, const wire::StepInput& step,
                               const wire::NewSequence& sequence, wire::StepResult& result) const {
  const auto describe = [&](int32_t token, int32_t others) {
    wire::TokenLogprobs logprobs{{token}, {std::log(0.5F)}, 1};
    const auto vocabulary = static_cast<int32_t>(profile_.vocabulary);
    for (int32_t k = 0; k < std::min(others, vocabulary); ++k) {
      logprobs.token_ids.push_back((token + k) % vocabulary);
      logprobs.logprobs.push_back(std::log(0.5F) * static_cast<float>(k + 1));
    }
    return logprobs;
  };
  const wire::SamplingParams& sampling = sequence.sampling;
  const int32_t token = result.row_token[row];
  const bool has_sampled = sampling.logprobs >= 0 && token >= 0;
  if (!has_sampled && sampling.prompt_logprobs < 0) return;
  wire::RowLogprobs logprobs{.row = row};
  if (has_sampled) logprobs.sampled.push_back(describe(token, sampling.logprobs));
  if (sampling.prompt_logprobs >= 0) {
    const uint32_t end =
        std::min(step.row_start[row] + step.row_count[row], sequence.prompt_count - 1);
    for (uint32_t position = step.row_start[row]; position < end; ++position) {
      logprobs.prompt.push_back(
          describe(sequence.token_ids[position + 1], sampling.prompt_logprobs));
    }
  }
  result.logprobs.push_back(std::move(logprobs));
}

}  // namespace trireme::engine
