#include "cli/top/page.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>
#include <vector>

#include "common/status.h"

namespace trireme::top {
namespace {

constexpr std::size_t kNodeColumnsMax = 24;
// Of sentences, where the rows are bounded: a share, so that the table has room too.
constexpr std::size_t kSentenceShare = 3;
constexpr std::size_t kSentencesMin = 3;
constexpr std::size_t kSentencesMax = 20;  // Where they are not.
constexpr std::size_t kColumnCount = 10;
using Cells = std::array<std::string, kColumnCount>;
constexpr std::array<std::string_view, kColumnCount> kHeads = {
    "NODE", "RANK", "PID", "STATE", "RUN", "WAIT", "KV%", "TOK/S", "WAVE", "SINCE"};
constexpr std::array<bool, kColumnCount> kIsLeft = {true,  false, false, true,  false,
                                                    false, false, false, false, false};

bool is_continuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

// In characters, of UTF-8.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return !is_continuation(c); }));
}

std::string_view cut(std::string_view text, std::size_t columns) {
  if (columns == 0 || width(text) <= columns) return text;
  std::size_t end = 0;
  for (std::size_t left = columns; end < text.size(); ++end) {
    if (is_continuation(text[end])) continue;
    if (left-- == 0) break;
  }
  return text.substr(0, end);
}

// Neither C0 nor C1 controls reach a terminal.
std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const bool is_c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xA0;
    if (is_c1) ++i;
    out += byte < 0x20 || byte == 0x7F || is_c1 ? '?' : text[i];
  }
  return out;
}

std::string plural(std::size_t count, std::string_view what) {
  return absl::StrFormat(count == 1 ? "%u %s" : "%u %ss", count, what);
}

std::string since_cell(const EngineFacts& engine) {
  const bool has_stall = engine.load && engine.load->stall;
  const std::optional<double> seconds =
      has_stall ? std::optional(engine.load->stall->seconds) : engine.state_seconds;
  if (!seconds) return "-";
  if (*seconds < 100) return absl::StrFormat("%.1f s", *seconds);
  if (*seconds < 6000) return absl::StrFormat("%.0f min", *seconds / 60);
  return absl::StrFormat("%.0f h", *seconds / 3600);
}

std::string wave_cell(const LoadFacts& load) {
  if (!load.wave) return "-";
  return load.wave->is_asleep ? "asleep" : std::to_string(load.wave->number);
}

Cells cells_of(const EngineDiagnosis& row) {
  const EngineFacts& engine = *row.engine;
  const MemberFacts& place = engine.place;
  Cells cells;
  cells.fill("-");
  if (!place.node.empty()) cells[0] = cut(printable(place.node), kNodeColumnsMax);
  cells[1] = std::to_string(place.index);
  if (place.pid > 0) cells[2] = std::to_string(place.pid);
  cells[3] = printable(row.state);
  cells[9] = since_cell(engine);
  if (!engine.load) return cells;
  const LoadFacts& load = *engine.load;
  cells[4] = std::to_string(load.running);
  cells[5] = std::to_string(load.waiting);
  cells[6] = absl::StrFormat("%.1f", 100 * load.kv_usage);
  if (load.tokens_per_second) cells[7] = absl::StrFormat("%.1f", *load.tokens_per_second);
  cells[8] = wave_cell(load);
  return cells;
}

std::string row_text(const Cells& cells, const std::array<std::size_t, kColumnCount>& widths) {
  std::string line;
  for (std::size_t i = 0; i < kColumnCount; ++i) {
    if (i > 0) line += "  ";
    const std::string gap(widths[i] - width(cells[i]), ' ');
    line += kIsLeft[i] ? cells[i] + gap : gap + cells[i];
  }
  return line;
}

// Only as wide as what is shown.
std::vector<std::string> table(const Diagnosis& diagnosis, std::size_t rows_max) {
  std::vector<Cells> rows(1);
  std::ranges::copy(kHeads, rows[0].begin());
  const std::size_t all = diagnosis.engines.size();
  // The line about the rest takes the place of a row.
  const std::size_t shown = all <= rows_max ? all : std::max<std::size_t>(rows_max, 2) - 1;
  for (std::size_t i = 0; i < shown; ++i) rows.push_back(cells_of(diagnosis.engines[i]));
  std::array<std::size_t, kColumnCount> widths{};
  for (const Cells& cells : rows) {
    for (std::size_t i = 0; i < kColumnCount; ++i) widths[i] = std::max(widths[i], width(cells[i]));
  }
  std::vector<std::string> lines;
  for (const Cells& cells : rows) lines.push_back(row_text(cells, widths));
  if (shown == all) return lines;
  std::size_t unwell = 0;
  for (std::size_t i = shown; i < all; ++i) unwell += diagnosis.engines[i].is_trouble() ? 1 : 0;
  lines.push_back(
      unwell == 0 ? absl::StrFormat("... and %u more that are well", all - shown)
                  : absl::StrFormat("... and %u more, %u of them not well", all - shown, unwell));
  return lines;
}

std::vector<std::string> head(const ClusterFacts& cluster, const Diagnosis& diagnosis,
                              std::string_view where) {
  std::set<std::string_view> nodes;
  uint64_t running = 0;
  uint64_t waiting = 0;
  double rate = 0;
  for (const EngineFacts& engine : cluster.engines) {
    if (!engine.place.node.empty()) nodes.insert(engine.place.node);
    if (!engine.load) continue;
    running += engine.load->running;
    waiting += engine.load->waiting;
    rate += engine.load->tokens_per_second.value_or(0);
  }
  for (const MemberFacts& member : cluster.front_ends) nodes.insert(member.node);
  for (const MemberFacts& member : cluster.node_agents) nodes.insert(member.node);
  const std::size_t unwell = diagnosis.trouble_count();
  const std::string health = unwell == 0 ? "all well" : absl::StrFormat("%u NOT WELL", unwell);
  return {
      absl::StrFormat("trireme %s at %s: epoch %u, %s, %s%s", printable(cluster.version), where,
                      cluster.epoch, plural(nodes.size(), "node"),
                      plural(cluster.front_ends.size(), "api-server"),
                      cluster.is_draining ? ", this one drains" : ""),
      absl::StrFormat("%s, %s: %u running, %u waiting, %.1f tokens/s",
                      plural(cluster.engines.size(), "engine"), health, running, waiting, rate)};
}

// What is wrong, and below it what is worth knowing.
std::vector<std::string> sentences(const ClusterFacts& cluster, const Diagnosis& diagnosis,
                                   std::size_t count_max) {
  std::vector<std::string> all;
  for (const EngineDiagnosis& row : diagnosis.engines) {
    if (row.is_trouble()) all.push_back("! " + printable(row.words));
  }
  // The first ones are about who holds the others up; the processes beside come before the rest.
  const std::size_t first = std::min(all.size(), count_max / 2);
  for (std::size_t i = 0; i < diagnosis.others.size(); ++i) {
    all.insert(all.begin() + static_cast<std::ptrdiff_t>(first + i),
               "! " + printable(diagnosis.others[i]));
  }
  for (const EngineDiagnosis& row : diagnosis.engines) {
    if (!row.is_trouble() && !row.words.empty()) all.push_back("  " + printable(row.words));
  }
  for (const EngineFacts& engine : cluster.engines) {
    const MemberFacts& place = engine.place;
    if (place.restarts == 0 || place.state != "ready") continue;
    all.push_back(
        absl::StrFormat("  rank %u was restarted%s%s%s", place.index,
                        place.restarts > 1 ? absl::StrFormat(" %u times", place.restarts) : "",
                        place.reason.empty() ? "" : "; last: ", printable(place.reason)));
  }
  if (all.size() <= count_max) return all;
  const std::size_t left = all.size() - (count_max - 1);
  all.resize(count_max - 1);
  all.push_back(absl::StrFormat("  ... and %u more", left));
  return all;
}

}  // namespace

std::string page_text(const ClusterFacts& cluster, const Diagnosis& diagnosis,
                      std::string_view where, PageSize size) {
  std::vector<std::string> lines = head(cluster, diagnosis, where);
  const std::size_t sentences_max =
      size.rows == 0 ? kSentencesMax : std::max(kSentencesMin, size.rows / kSentenceShare);
  const std::vector<std::string> words = sentences(cluster, diagnosis, sentences_max);
  lines.emplace_back();
  lines.insert(lines.end(), words.begin(), words.end());
  if (!words.empty()) lines.emplace_back();
  const std::size_t used = lines.size() + 1;  // And the table's head.
  const std::size_t left = size.rows == 0         ? diagnosis.engines.size()
                           : size.rows > used + 1 ? size.rows - used
                                                  : 1;
  for (std::string& line : table(diagnosis, left)) lines.push_back(std::move(line));
  if (size.rows > 0) lines.resize(std::min(lines.size(), size.rows));
  std::string text;
  for (const std::string& line : lines) {
    text += cut(line, size.columns);
    text += '\n';
  }
  return text;
}

}  // namespace trireme::top
