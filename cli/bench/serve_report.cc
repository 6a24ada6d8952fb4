#include "cli/bench/serve_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_format.h"

namespace trireme::bench {
namespace {

constexpr double kMilliseconds = 1000;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

bool is_completed(const Sample& sample) { return sample.state == SampleState::kCompleted; }

double tpot(const Sample& sample) {
  if (sample.output_tokens < 2) return 0;
  return seconds(sample.latency - sample.ttft) / (sample.output_tokens - 1);
}

bool is_good(const Sample& sample, const std::map<std::string, double>& goodput) {
  const auto keeps = [&goodput](const char* name, double value) {
    const auto bound = goodput.find(name);
    return bound == goodput.end() || value * kMilliseconds <= bound->second;
  };
  return keeps("ttft", seconds(sample.ttft)) && keeps("tpot", tpot(sample)) &&
         keeps("e2el", seconds(sample.latency));
}

using Values = std::map<std::string, std::vector<double>>;

void add(Values& values, const Sample& sample) {
  values["ttft"].push_back(seconds(sample.ttft));
  if (sample.output_tokens > 1) values["tpot"].push_back(tpot(sample));
  for (const Duration itl : sample.itls) values["itl"].push_back(seconds(itl));
  values["e2el"].push_back(seconds(sample.latency));
  values["client_queue_time"].push_back(seconds(sample.queue_time));
  values["e2el_including_client_queue"].push_back(seconds(sample.latency + sample.queue_time));
}

// Pieces of text in each second since the first request was sent; the largest.
double busiest_second(std::span<const Sample> samples, Instant begin) {
  std::map<int64_t, uint64_t> pieces;
  for (const Sample& sample : samples) {
    if (!is_completed(sample)) continue;
    Instant time = sample.start + sample.ttft;
    const auto count = [&] { ++pieces[(time - begin) / std::chrono::seconds(1)]; };
    count();
    for (const Duration itl : sample.itls) time += itl, count();
  }
  uint64_t most = 0;
  for (const auto& [second, number] : pieces) most = std::max(most, number);
  return static_cast<double>(most);
}

uint64_t most_at_once(std::span<const Sample> samples) {
  std::vector<std::pair<Instant, int>> changes;
  for (const Sample& sample : samples) {
    if (!is_completed(sample)) continue;
    changes.emplace_back(sample.start, 1);
    changes.emplace_back(sample.start + sample.latency, -1);
  }
  std::sort(changes.begin(), changes.end());  // Who leaves at an instant leaves before who comes.
  int64_t now = 0;
  int64_t most = 0;
  for (const auto& [time, change] : changes) most = std::max(most, now += change);
  return static_cast<uint64_t>(most);
}

}  // namespace

double percentile(std::span<const double> sorted, double percent) {
  if (sorted.empty()) return 0;
  const double at = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - std::floor(at));
}

Distribution distribution(std::vector<double> values, std::span<const double> percents) {
  Distribution found;
  found.percentiles.resize(percents.size());
  if (values.empty()) return found;
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  found.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - found.mean) * (value - found.mean);
  found.std = std::sqrt(squares / count);
  found.median = percentile(values, 50);
  std::transform(percents.begin(), percents.end(), found.percentiles.begin(),
                 [&](double percent) { return percentile(values, percent); });
  return found;
}

ServeFigures figures(std::span<const Sample> samples, Duration duration,
                     const ReportOptions& options) {
  ServeFigures found;
  Values values;
  uint64_t good = 0;
  Instant begin = Instant::max();
  for (const Sample& sample : samples) {
    if (sample.state == SampleState::kFailed) ++found.failed;
    if (sample.state == SampleState::kUnfinished) ++found.unfinished;
    if (!is_completed(sample)) continue;
    ++found.completed;
    found.total_input_tokens += sample.prompt_tokens;
    found.total_output_tokens += sample.output_tokens;
    if (is_good(sample, options.goodput)) ++good;
    begin = std::min(begin, sample.start);
    add(values, sample);
  }
  found.duration = seconds(duration);
  const auto rate = [&](uint64_t count) {
    return found.duration > 0 ? static_cast<double>(count) / found.duration : 0;
  };
  found.request_throughput = rate(found.completed);
  found.request_goodput = rate(good);
  found.output_throughput = rate(found.total_output_tokens);
  found.total_token_throughput = rate(found.total_input_tokens + found.total_output_tokens);
  found.max_output_tokens_per_s = busiest_second(samples, begin);
  found.max_concurrent_requests = most_at_once(samples);
  for (const std::string& metric : options.percentile_metrics) {
    std::vector<double>& of_metric = values[metric];
    for (double& value : of_metric) value *= kMilliseconds;
    found.milliseconds[metric] = distribution(std::move(of_metric), options.percentiles);
  }
  return found;
}

std::string failure_lines(std::span<const Sample> samples, std::size_t lines_max) {
  std::map<std::string, uint64_t> counts;
  for (const Sample& sample : samples) {
    if (sample.state == SampleState::kFailed) ++counts[sample.error];
  }
  std::vector<std::pair<uint64_t, std::string>> rows;
  for (const auto& [reason, count] : counts) rows.emplace_back(count, reason);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string out;
  for (std::size_t i = 0; i < std::min(lines_max, rows.size()); ++i) {
    out += absl::StrFormat("  %d x %s\n", rows[i].first, rows[i].second);
  }
  if (rows.size() > lines_max) out += absl::StrFormat("  and %d more\n", rows.size() - lines_max);
  return out;
}

}  // namespace trireme::bench
