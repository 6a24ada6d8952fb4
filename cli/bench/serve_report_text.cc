// The figures of `bench serve` as vLLM's table and as vLLM's JSON fields.
#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_format.h"
#include "cli/bench/serve_report.h"
#include "common/json_text.h"

namespace trireme::bench {
namespace {

constexpr std::size_t kTableColumns = 50;

struct Metric {
  const char* name;
  const char* title;
  const char* heading;
};

// In the order in which they are shown.
constexpr Metric kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token"},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)"},
    {"itl", "ITL", "Inter-token Latency"},
    {"e2el", "E2EL", "End-to-end Latency"},
    {"client_queue_time", "Client Queue Time", "Client-side Queueing"},
    {"e2el_including_client_queue", "E2EL incl. Client Queue",
     "Queue-inclusive End-to-end Latency"},
};

std::string heading(std::string_view text, char fill) {
  const std::size_t free = kTableColumns - std::min(kTableColumns, text.size());
  std::string line(free / 2, fill);
  line += text;
  line.append(free - free / 2, fill);
  return line + "\n";
}

std::string row(std::string_view name, uint64_t value) {
  return absl::StrFormat("%-40s %-10d\n", name, value);
}

std::string row(std::string_view name, double value) {
  return absl::StrFormat("%-40s %-10.2f\n", name, value);
}

std::string distribution_rows(const Metric& metric, const Distribution& values,
                              std::span<const double> percents) {
  std::string out = heading(metric.heading, '-');
  out += row(absl::StrFormat("Mean %s (ms):", metric.title), values.mean);
  out += row(absl::StrFormat("Median %s (ms):", metric.title), values.median);
  for (std::size_t i = 0; i < percents.size(); ++i) {
    out += row(absl::StrFormat("P%s %s (ms):", percent_word(percents[i]), metric.title),
               values.percentiles[i]);
  }
  return out;
}

std::string speculation_rows(const SpeculationFigures& found) {
  std::string out = heading("Speculative Decoding", '-');
  out += row("Acceptance rate (%):", found.acceptance_rate);
  out += row("Acceptance length:", found.acceptance_length);
  out += row("Drafts:", found.drafts);
  out += row("Draft tokens:", found.draft_tokens);
  out += row("Accepted tokens:", found.accepted_tokens);
  if (!found.rates_by_position.empty()) out += "Per-position acceptance (%):\n";
  for (std::size_t i = 0; i < found.rates_by_position.size(); ++i) {
    out += row(absl::StrFormat("  Position %d:", i), 100 * found.rates_by_position[i]);
  }
  return out;
}

// Doubles that come back as they were; JSON has no infinity.
std::string number(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.17g", value) : "null";
}

void append(std::string& out, std::string_view name, const std::string& json) {
  if (!out.empty()) out += ", ";
  out += absl::StrFormat("\"%s\": %s", name, json);
}

void append_speculation(std::string& out, const SpeculationFigures& found) {
  append(out, "spec_decode_acceptance_rate", number(found.acceptance_rate));
  append(out, "spec_decode_acceptance_length", number(found.acceptance_length));
  append(out, "spec_decode_num_drafts", std::to_string(found.drafts));
  append(out, "spec_decode_draft_tokens", std::to_string(found.draft_tokens));
  append(out, "spec_decode_accepted_tokens", std::to_string(found.accepted_tokens));
  std::string rates;
  for (const double rate : found.rates_by_position) {
    rates += (rates.empty() ? "" : ", ") + number(rate);
  }
  append(out, "spec_decode_per_position_acceptance_rates", "[" + rates + "]");
}

template <typename Field>
std::string list(std::span<const Sample> samples, Field field) {
  std::string out = "[";
  for (const Sample& sample : samples) {
    if (out.size() > 1) out += ", ";
    out += field(sample);
  }
  return out + "]";
}

std::string seconds_text(Duration duration) {
  return number(std::chrono::duration<double>(duration).count());
}

std::string itl_list(const Sample& sample) {
  std::string out = "[";
  for (const Duration itl : sample.itls) {
    if (out.size() > 1) out += ", ";
    out += seconds_text(itl);
  }
  return out + "]";
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

}  // namespace

bool is_metric(std::string_view name) {
  return std::any_of(std::begin(kMetrics), std::end(kMetrics),
                     [name](const Metric& metric) { return metric.name == name; });
}

std::string percent_word(double percent) { return absl::StrFormat("%g", percent); }

std::string table(const ServeFigures& figures, const ReportOptions& options) {
  std::string out = heading(" Serving Benchmark Result ", '=');
  out += row("Successful requests:", figures.completed);
  out += row("Failed requests:", figures.failed);
  if (figures.unfinished > 0) out += row("Unfinished requests:", figures.unfinished);
  if (options.max_concurrency) {
    out += row("Maximum request concurrency:", uint64_t{*options.max_concurrency});
  }
  if (std::isfinite(options.request_rate)) {
    out += row("Request rate configured (RPS):", options.request_rate);
  }
  out += row("Benchmark duration (s):", figures.duration);
  out += row("Total input tokens:", figures.total_input_tokens);
  out += row("Total generated tokens:", figures.total_output_tokens);
  out += row("Request throughput (req/s):", figures.request_throughput);
  if (!options.goodput.empty()) out += row("Request goodput (req/s):", figures.request_goodput);
  out += row("Output token throughput (tok/s):", figures.output_throughput);
  out += row("Peak output token throughput (tok/s):", figures.max_output_tokens_per_s);
  out += row("Peak concurrent requests:", static_cast<double>(figures.max_concurrent_requests));
  out += row("Total token throughput (tok/s):", figures.total_token_throughput);
  for (const Metric& metric : kMetrics) {
    const auto found = figures.milliseconds.find(metric.name);
    if (found != figures.milliseconds.end()) {
      out += distribution_rows(metric, found->second, options.percentiles);
    }
  }
  if (figures.speculation) out += speculation_rows(*figures.speculation);
  return out + heading("", '=');
}

std::string json_members(const ServeFigures& figures, const ReportOptions& options) {
  std::string out;
  append(out, "duration", number(figures.duration));
  append(out, "completed", std::to_string(figures.completed));
  append(out, "failed", std::to_string(figures.failed));
  append(out, "unfinished", std::to_string(figures.unfinished));
  append(out, "total_input_tokens", std::to_string(figures.total_input_tokens));
  append(out, "total_output_tokens", std::to_string(figures.total_output_tokens));
  append(out, "request_throughput", number(figures.request_throughput));
  append(out, "request_goodput",
         options.goodput.empty() ? "null" : number(figures.request_goodput));
  append(out, "output_throughput", number(figures.output_throughput));
  append(out, "total_token_throughput", number(figures.total_token_throughput));
  append(out, "max_output_tokens_per_s", number(figures.max_output_tokens_per_s));
  append(out, "max_concurrent_requests", std::to_string(figures.max_concurrent_requests));
  // Seconds of audio in a second of the run: requests of text have none.
  append(out, "rtfx", "0.0");
  if (figures.speculation) append_speculation(out, *figures.speculation);
  for (const Metric& metric : kMetrics) {
    const auto found = figures.milliseconds.find(metric.name);
    if (found == figures.milliseconds.end()) continue;
    const Distribution& values = found->second;
    append(out, absl::StrFormat("mean_%s_ms", metric.name), number(values.mean));
    append(out, absl::StrFormat("median_%s_ms", metric.name), number(values.median));
    append(out, absl::StrFormat("std_%s_ms", metric.name), number(values.std));
    for (std::size_t i = 0; i < values.percentiles.size(); ++i) {
      append(out, absl::StrFormat("p%s_%s_ms", percent_word(options.percentiles[i]), metric.name),
             number(values.percentiles[i]));
    }
  }
  return out;
}

std::string detailed_json_members(std::span<const Sample> samples, Instant begin) {
  std::string out;
  append(out, "input_lens",
         list(samples, [](const Sample& s) { return std::to_string(s.prompt_tokens); }));
  append(out, "output_lens",
         list(samples, [](const Sample& s) { return std::to_string(s.output_tokens); }));
  append(out, "ttfts", list(samples, [](const Sample& s) { return seconds_text(s.ttft); }));
  append(out, "itls", list(samples, itl_list));
  append(out, "latencies", list(samples, [](const Sample& s) { return seconds_text(s.latency); }));
  append(out, "start_times", list(samples, [begin](const Sample& s) {
           return s.start == Instant{} ? "null" : seconds_text(s.start - begin);
         }));
  append(out, "queue_times",
         list(samples, [](const Sample& s) { return seconds_text(s.queue_time); }));
  append(out, "errors", list(samples, [](const Sample& s) { return json_string(s.error); }));
  return out;
}

}  // namespace trireme::bench
