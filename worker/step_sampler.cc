#include "worker/step_sampler.h"

#include <utility>

namespace trireme::worker {
namespace {

// Uses come by rising row, so the row's entry is the last one or not there yet.
wire::RowLogprobs& logprobs_of(uint32_t row, wire::StepResult& result) {
  if (result.logprobs.empty() || result.logprobs.back().row != row) {
    result.logprobs.emplace_back().row = row;
  }
  return result.logprobs.back();
}

void take_logprobs(const LogitsUse& use, wire::TokenLogprobs& logprobs, wire::StepResult& result) {
  if (logprobs.token_ids.empty()) return;
  wire::RowLogprobs& row = logprobs_of(use.row, result);
  (use.samples ? row.sampled : row.prompt).push_back(std::move(logprobs));
}

}  // namespace

// Chains are independent, so who takes which one is open: the table stays as it is meanwhile, but
// for sequences with drafts, which have no other chain.
void StepSampler::take(const Step& step, const ForwardPlan& plan, std::span<float> logits,
                       std::span<const float> features) {
  const auto uses = plan.uses();
  find_chains(uses);
  if (outcomes_.size() < uses.size()) outcomes_.resize(uses.size());
  samplers_.run(chains_.size(), uses.size() * vocabulary_, [&](std::size_t i, Sampler& sampler) {
    sample_chain(step, uses, chains_[i], logits, sampler);
  });
  for (const Chain& chain : chains_) take_chain(step, uses, chain);
  for (const PoolUse& use : plan.pool_uses()) pool(step, use, features);
}

void StepSampler::find_chains(std::span<const LogitsUse> uses) {
  chains_.clear();
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const std::size_t begin = i;
    while (uses[i].draft != wire::kNoToken) ++i;
    chains_.push_back({begin, i + 1, begin});
  }
}

// Up to the first draft that is not what sampling picks: from there on nothing is as it was
// computed for.
void StepSampler::sample_chain(const Step& step, std::span<const LogitsUse> uses, Chain& chain,
                               std::span<float> logits, Sampler& sampler) {
  for (std::size_t i = chain.begin; i < chain.end; ++i) {
    const LogitsUse& use = uses[i];
    use_logits(step, use, logits.subspan(i * vocabulary_, vocabulary_), sampler, outcomes_[i]);
    chain.used_end = i + 1;
    if (use.draft == wire::kNoToken || outcomes_[i].token != use.draft) return;
    step.table.append(step.input.row_slot[use.row], use.draft);
  }
}

void StepSampler::use_logits(const Step& step, const LogitsUse& use, std::span<float> logits,
                             Sampler& sampler, Outcome& outcome) const {
  const Sequence& sequence = step.table.at(step.input.row_slot[use.row]);
  outcome.token = wire::kNoToken;
  outcome.logprobs.token_ids.clear();
  if (use.samples) {
    const SamplingRow row{.logits = logits,
                          .params = sequence.sampling,
                          .tokens = sequence.tokens,
                          .prompt_count = sequence.prompt_count,
                          .counts = &sequence.counts};
    outcome.token = sampler.sample(row, is_reporting_ ? &outcome.logprobs : nullptr);
  } else if (is_reporting_) {
    const int32_t token = sequence.tokens[use.position + 1];
    const bool is_good =
        sampler.describe(logits, token, sequence.sampling.prompt_logprobs, outcome.logprobs);
    if (!is_good) outcome.token = wire::kBadLogits;
  }
}

void StepSampler::take_chain(const Step& step, std::span<const LogitsUse> uses,
                             const Chain& chain) {
  const LogitsUse& last = uses[chain.used_end - 1];
  const int32_t outcome = outcomes_[chain.used_end - 1].token;
  int32_t& token = step.result.row_token[last.row];
  // Bad logits of its prompt fail the row, whatever it samples.
  if (token != wire::kBadLogits) token = outcome;
  if (last.samples) step.table.append(step.input.row_slot[last.row], outcome);
  const std::size_t accepted = chain.used_end - 1 - chain.begin;
  if (accepted > 0) step.result.row_accepted[last.row] = static_cast<uint32_t>(accepted);
  for (std::size_t i = chain.begin; i < chain.begin + accepted && step.tells_drafts; ++i) {
    step.result.accepted_tokens.push_back(uses[i].draft);
  }
  for (std::size_t i = chain.begin; i < chain.used_end; ++i) {
    take_logprobs(uses[i], outcomes_[i].logprobs, step.result);
  }
}

void StepSampler::pool(const Step& step, const PoolUse& use, std::span<const float> features) {
  const uint32_t slot = step.input.row_slot[use.row];
  if (!pooler_.take(slot, use, features)) return;
  std::vector<float> pooled = pooler_.finish(slot);
  if (pooled.empty()) {
    step.result.row_token[use.row] = wire::kBadLogits;
  } else if (is_reporting_) {
    step.result.pooled.push_back({use.row, std::move(pooled)});
  }
}

}  // namespace trireme::worker
