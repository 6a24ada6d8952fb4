#include "cli/bench/speculation_figures.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

namespace trireme::bench {
namespace {

constexpr std::string_view kPrefix = "vllm:spec_decode_num_";
constexpr std::string_view kPositionLabel = "position=\"";
// The largest double below which every whole number is one.
constexpr double kCountMax = 9007199254740992.0;

// Counters are written as numbers with a fraction by some servers.
std::optional<uint64_t> count_of(std::string_view text) {
  const std::string copied(text);
  char* end = nullptr;
  const double value = std::strtod(copied.c_str(), &end);
  if (end == copied.c_str() || !(value >= 0 && value <= kCountMax)) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::optional<uint32_t> position_of(std::string_view labels) {
  const std::size_t at = labels.find(kPositionLabel);
  if (at == std::string_view::npos) return std::nullopt;
  const char* begin = labels.data() + at + kPositionLabel.size();
  uint32_t position = 0;
  const auto [end, failure] = std::from_chars(begin, labels.data() + labels.size(), position);
  if (failure != std::errc() || end == begin) return std::nullopt;
  return position;
}

// A line after kPrefix: `drafts_total{engine="0"} 5`. False: it is none of ours.
bool add_line(std::string_view line, SpeculationCounts& counts) {
  const std::size_t name_end = line.find_first_of("{ ");
  const std::size_t labels_end = line.rfind('}');
  const std::size_t value_begin =
      line.find_first_not_of(' ', labels_end == std::string_view::npos ? name_end : labels_end + 1);
  if (value_begin == std::string_view::npos) return false;
  const std::optional<uint64_t> value = count_of(line.substr(value_begin));
  if (!value) return false;
  const std::string_view name = line.substr(0, name_end);
  if (name == "drafts_total") {
    counts.drafts += *value;
  } else if (name == "draft_tokens_total") {
    counts.draft_tokens += *value;
  } else if (name == "accepted_tokens_total") {
    counts.accepted_tokens += *value;
  } else if (name == "accepted_tokens_per_pos_total") {
    const auto position = position_of(line.substr(name_end));
    if (position) counts.accepted_at_position[*position] += *value;
  } else {
    return false;
  }
  return true;
}

uint64_t growth(uint64_t before, uint64_t after) { return after > before ? after - before : 0; }

}  // namespace

std::optional<SpeculationCounts> read_speculation(std::string_view metrics_page) {
  SpeculationCounts counts;
  bool has_any = false;
  while (!metrics_page.empty()) {
    const std::size_t end = metrics_page.find('\n');
    const std::string_view line = metrics_page.substr(0, end);
    metrics_page.remove_prefix(end == std::string_view::npos ? metrics_page.size() : end + 1);
    if (!line.starts_with(kPrefix)) continue;
    has_any = add_line(line.substr(kPrefix.size()), counts) || has_any;
  }
  return has_any ? std::optional(std::move(counts)) : std::nullopt;
}

std::optional<SpeculationFigures> speculation_between(
    const std::optional<SpeculationCounts>& before, const std::optional<SpeculationCounts>& after) {
  if (!before || !after) return std::nullopt;
  SpeculationFigures found{
      .drafts = growth(before->drafts, after->drafts),
      .draft_tokens = growth(before->draft_tokens, after->draft_tokens),
      .accepted_tokens = growth(before->accepted_tokens, after->accepted_tokens)};
  if (found.draft_tokens == 0) return std::nullopt;
  const auto accepted = static_cast<double>(found.accepted_tokens);
  found.acceptance_rate = 100 * accepted / static_cast<double>(found.draft_tokens);
  if (found.drafts == 0) return found;
  const auto drafts = static_cast<double>(found.drafts);
  found.acceptance_length = 1 + accepted / drafts;
  for (const auto& [position, count] : after->accepted_at_position) {
    const auto was = before->accepted_at_position.find(position);
    const uint64_t begin = was == before->accepted_at_position.end() ? 0 : was->second;
    found.rates_by_position.push_back(static_cast<double>(growth(begin, count)) / drafts);
  }
  return found;
}

}  // namespace trireme::bench
