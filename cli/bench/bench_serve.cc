// trireme bench serve: options -> what the server serves -> warm-up -> load -> figures.
#include <poll.h>

#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "cli/bench/bench_command.h"
#include "cli/bench/load_run.h"
#include "cli/bench/progress.h"
#include "cli/bench/serve_options.h"
#include "cli/bench/server_facts.h"
#include "common/clock.h"
#include "common/json_text.h"
#include "common/options/serve_flags.h"
#include "common/signals.h"

namespace trireme::bench {
namespace {

constexpr Duration kRetryInterval = std::chrono::milliseconds(500);
constexpr std::size_t kFailureLinesMax = 10;
// Of one core: the client is a single thread.
constexpr double kBusyClient = 0.9;

struct ServeBench {
  const ServeBenchOptions& options;
  ServedModel model;
  Vocabulary vocabulary;
  RequestPlan plan;
  RequestBody body;

  [[nodiscard]] std::string request(std::size_t index) const {
    const PlannedRequest& planned = plan.requests()[index];
    return request_text(options.url, "POST", options.path, options.headers,
                        body.text(plan.prompt(index, vocabulary.size), planned.output_len));
  }
};

Status explain(const Status& status, const ServerUrl& url) {
  if (status.code() != StatusCode::kUnavailable) return status;
  return error(status.code(),
               "no server at %s (%s); start one (trireme serve MODEL), or name it with --base-url "
               "or --host and --port",
               url.text(), std::string(status.message()));
}

// False: to be stopped.
bool wait_a_moment(StopSignal& stop) {
  pollfd entry{stop.fd(), POLLIN, 0};
  ::poll(&entry, 1, static_cast<int>(kRetryInterval / std::chrono::milliseconds(1)));
  return stop.update() == StopSignal::Level::kRun;
}

// The model to name in requests. Asks the server, which shows as well that there is one; again and
// again as long as --ready-check-timeout-sec allows.
StatusOr<ServedModel> find_model(const ServeBenchOptions& options, StopSignal& stop) {
  const auto wait = std::chrono::seconds(options.words.ready_check_timeout_sec);
  const Deadline deadline = Deadline::after(wait);
  Progress progress("waiting for " + options.url.text(), 0, !options.words.disable_tqdm);
  while (true) {
    const StatusOr<ServedModel> found = first_model(options.url, options.headers);
    ServedModel named{.id = options.words.served_model_name, .root = options.words.model};
    if (named.id.empty()) named.id = options.words.model;
    const bool is_there = found.ok() || found.status().code() == StatusCode::kFailedPrecondition;
    // A server without /v1/models will do when the model's name is known.
    if (is_there && !named.id.empty()) {
      if (found.ok() && named.root.empty()) named.root = found->root;
      return named;
    }
    if (is_there || deadline.has_passed()) {
      return found.ok() ? found : StatusOr<ServedModel>(explain(found.status(), options.url));
    }
    progress.update(0, std::string(found.status().message()), now());
    if (!wait_a_moment(stop)) return error(StatusCode::kCancelled, "interrupted");
  }
}

StatusOr<LoadOutcome> load(const ServeBench& bench, std::size_t count, bool is_paced,
                           const char* what, StopSignal& stop) {
  const ServeBenchOptions& options = bench.options;
  LoadJob job{
      .request_of =
          [&](std::size_t index) { return bench.request(index % bench.plan.requests().size()); },
      .max_concurrency = options.words.max_concurrency};
  for (std::size_t i = 0; i < count; ++i) {
    job.arrivals.push_back(is_paced ? bench.plan.requests()[i].at : Duration{});
  }
  Progress progress(what, count, !options.words.disable_tqdm);
  auto outcome = run_load(options.url, job, progress, stop);
  if (!outcome.ok()) return outcome;
  for (std::size_t i = 0; i < outcome->samples.size(); ++i) {
    Sample& sample = outcome->samples[i];
    const auto& planned = bench.plan.requests();
    if (sample.prompt_tokens == 0) sample.prompt_tokens = planned[i % planned.size()].input_len;
  }
  return outcome;
}

Status warm_up(const ServeBench& bench, std::size_t count, StopSignal& stop) {
  if (count == 0) return absl::OkStatus();
  TRIREME_ASSIGN_OR_RETURN(const LoadOutcome outcome,
                           load(bench, count, /*is_paced=*/false, "warming up", stop));
  for (const Sample& sample : outcome.samples) {
    if (sample.state == SampleState::kFailed) {
      return error(StatusCode::kFailedPrecondition, "a first request failed: %s", sample.error);
    }
  }
  return absl::OkStatus();
}

std::string date_text() {
  const auto seconds = static_cast<std::time_t>(unix_milliseconds() / 1000);
  std::tm fields{};
  localtime_r(&seconds, &fields);
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &fields));
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string rate_text(double rate) {
  return std::isinf(rate) ? "inf" : absl::StrFormat("%g", rate);
}

std::string label_of(const ServeWords& words) {
  return words.label.empty() ? words.backend : words.label;
}

std::string result_path(const ServeBench& bench, const std::string& date) {
  const ServeWords& words = bench.options.words;
  std::string name = words.result_filename;
  if (name.empty()) {
    const std::string model = bench.model.id.substr(bench.model.id.rfind('/') + 1);
    const std::string concurrency =
        words.max_concurrency ? absl::StrFormat("-concurrency%d", *words.max_concurrency) : "";
    name = absl::StrFormat("%s-%sqps%s-%s-%s.json", label_of(words),
                           rate_text(words.plan.request_rate), concurrency, model, date);
  }
  if (words.result_dir.empty()) return name;
  return (std::filesystem::path(words.result_dir) / name).string();
}

std::string result_json(const ServeBench& bench, const LoadOutcome& outcome,
                        const ServeFigures& found, const std::string& date) {
  const ServeWords& words = bench.options.words;
  const double rate = words.plan.request_rate;
  std::string out = absl::StrFormat(
      R"({"date": %s, "endpoint_type": %s, "backend": %s, "label": %s, "model_id": %s, )"
      R"("tokenizer_id": %s, "num_prompts": %d, )",
      json_string(date), json_string(words.backend), json_string(words.backend),
      words.label.empty() ? "null" : json_string(words.label), json_string(bench.model.id),
      json_string(bench.vocabulary.source), words.plan.num_prompts);
  for (const auto& [name, value] : bench.options.metadata) {
    out += absl::StrFormat("%s: %s, ", json_string(name), json_string(value));
  }
  out += absl::StrFormat(
      R"("request_rate": %s, "burstiness": %s, "max_concurrency": %s, )"
      R"("client_cpu_seconds": %.6f, )",
      std::isinf(rate) ? "\"inf\"" : rate_text(rate),
      std::isinf(words.plan.burstiness) ? "\"inf\"" : rate_text(words.plan.burstiness),
      words.max_concurrency ? std::to_string(*words.max_concurrency) : "null",
      std::chrono::duration<double>(outcome.client_cpu).count());
  out += json_members(found, bench.options.report);
  if (words.save_detailed) {
    out += ", " + detailed_json_members(outcome.samples, outcome.begin);
  }
  return out + "}";
}

Status save(const ServeBench& bench, const std::string& json, const std::string& path) {
  std::error_code code;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, code);
  const bool is_appended = bench.options.words.append_result;
  const bool is_new =
      !std::filesystem::exists(path, code) || std::filesystem::file_size(path, code) == 0;
  std::ofstream file(path, is_appended ? std::ios::app : std::ios::trunc);
  if (is_appended && !is_new) file << "\n";
  file << json;
  file.flush();
  if (file.good()) return absl::OkStatus();
  return error(StatusCode::kInternal, "--save-result: cannot write '%s'", path);
}

Status show(const ServeBench& bench, const LoadOutcome& outcome,
            std::optional<SpeculationFigures> speculation) {
  const ServeBenchOptions& options = bench.options;
  ServeFigures found = figures(outcome.samples, outcome.duration, options.report);
  found.speculation = std::move(speculation);
  if (found.failed > 0) {
    std::fprintf(stderr, "%lu requests failed:\n%s", found.failed,
                 failure_lines(outcome.samples, kFailureLinesMax).c_str());
  }
  if (found.completed > 0 || outcome.was_interrupted) {
    std::fputs(table(found, options.report).c_str(), stdout);
    std::fflush(stdout);
  }
  const double cpu = std::chrono::duration<double>(outcome.client_cpu).count();
  if (cpu > kBusyClient * found.duration && found.duration > 1) {
    std::fprintf(stderr,
                 "note: this client used %.0f %% of its one core: it, not the server, may be what "
                 "was measured\n",
                 100 * cpu / found.duration);
  }
  if (options.words.save_result || options.words.append_result) {
    const std::string date = date_text();
    const std::string path = result_path(bench, date);
    TRIREME_RETURN_IF_ERROR(save(bench, result_json(bench, outcome, found, date), path));
    std::fprintf(stderr, "saved %s\n", path.c_str());
  }
  if (found.completed == 0 && !outcome.was_interrupted) {
    return error(StatusCode::kAborted, "no request was completed");
  }
  return absl::OkStatus();
}

StatusOr<ServeBench> prepare(const ServeBenchOptions& options, StopSignal& stop) {
  TRIREME_ASSIGN_OR_RETURN(ServedModel model, find_model(options, stop));
  Vocabulary vocabulary =
      find_vocabulary({options.words.tokenizer, options.words.model, model.root});
  BodyOptions fields = options.body;
  fields.model = model.id;
  TRIREME_ASSIGN_OR_RETURN(RequestBody body, RequestBody::make(fields));
  const PlanOptions& plan = options.plan;
  std::fprintf(stderr, "%s%s, model '%s': %u requests of %u tokens in, %u out, rate %s\n",
               options.url.text().c_str(), options.path.c_str(), model.id.c_str(), plan.num_prompts,
               plan.prefix_len + plan.input_len, plan.output_len,
               rate_text(plan.request_rate).c_str());
  std::fprintf(stderr, "token ids below %u (%s)\n", vocabulary.size, vocabulary.source.c_str());
  return ServeBench{.options = options,
                    .model = std::move(model),
                    .vocabulary = std::move(vocabulary),
                    .plan = RequestPlan(plan),
                    .body = std::move(body)};
}

StatusOr<bool> run(const ServeBenchOptions& options, StopSignal& stop) {
  TRIREME_ASSIGN_OR_RETURN(const ServeBench bench, prepare(options, stop));
  const ServeWords& words = options.words;
  const std::size_t first = words.ready_check_timeout_sec > 0 ? 1 : 0;
  TRIREME_RETURN_IF_ERROR(warm_up(bench, first, stop));
  TRIREME_RETURN_IF_ERROR(warm_up(bench, words.num_warmups, stop));
  if (stop.level() != StopSignal::Level::kRun) return true;
  const auto before = speculation_counts(options.url, options.headers);
  TRIREME_ASSIGN_OR_RETURN(const LoadOutcome outcome, load(bench, options.plan.num_prompts,
                                                           /*is_paced=*/true, "requests", stop));
  const auto after = before ? speculation_counts(options.url, options.headers) : std::nullopt;
  TRIREME_RETURN_IF_ERROR(show(bench, outcome, speculation_between(before, after)));
  return outcome.was_interrupted;
}

int fail(const Status& status, int code) {
  std::fprintf(stderr, "trireme bench serve: %s\n", std::string(status.message()).c_str());
  return code;
}

}  // namespace

int run_serve(Arguments arguments) {
  const Words given(arguments.data(), arguments.size());
  ServeWords words;
  const std::vector<Flag> flags = serve_bench_flags(words);
  if (wants_help(given)) {
    std::printf(
        "usage: trireme bench serve [flags]\n\n"
        "Sends requests to an OpenAI-compatible server that runs already, and prints throughput\n"
        "and latencies. The flags, the table and the saved fields are those of vllm bench serve.\n"
        "Ctrl-C ends early and prints what was measured.\n\n%s",
        flags_help(flags).c_str());
    return 0;
  }
  if (const Status status = parse_flags(flags, given, nullptr); !status.ok()) {
    return fail(status, kExitWrongFlags);
  }
  const auto options = checked_options(words);
  if (!options.ok()) return fail(options.status(), kExitWrongFlags);
  auto stop = StopSignal::install();
  if (!stop.ok()) return fail(stop.status(), kExitFailed);
  const StatusOr<bool> was_interrupted = run(*options, *stop);
  if (!was_interrupted.ok()) return fail(was_interrupted.status(), kExitFailed);
  return *was_interrupted ? kExitInterrupted : 0;
}

}  // namespace trireme::bench
