// SpeculationFigures: how many guessed tokens were right while a load ran, from the counters of the
// server's /metrics page before and after it, with vLLM's definitions. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace trireme::bench {

// Since the server started, of all its engines.
struct SpeculationCounts {
  uint64_t drafts = 0;  // What was guessed for a sequence in a step.
  uint64_t draft_tokens = 0;
  uint64_t accepted_tokens = 0;
  std::map<uint32_t, uint64_t> accepted_at_position;  // In the draft; those that the page names.
};

struct SpeculationFigures {
  uint64_t drafts = 0;
  uint64_t draft_tokens = 0;
  uint64_t accepted_tokens = 0;
  double acceptance_rate = 0;    // Per cent of the guessed tokens.
  double acceptance_length = 0;  // Tokens of a step with a draft, the sampled one with them.
  std::vector<double> rates_by_position;  // Of the drafts, in the order of positions.
};

// vllm:spec_decode_*_total of a page in Prometheus' text format; nothing where it has none.
[[nodiscard]] std::optional<SpeculationCounts> read_speculation(std::string_view metrics_page);

// Nothing where no token was guessed meanwhile, or a page had no counters. An engine that was
// restarted counts from 0 again: what is less than before counts as none.
[[nodiscard]] std::optional<SpeculationFigures> speculation_between(
    const std::optional<SpeculationCounts>& before, const std::optional<SpeculationCounts>& after);

}  // namespace trireme::bench
