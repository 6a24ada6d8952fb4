#include "cli/bench/engine_bench.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "cli/bench/progress.h"
#include "cli/bench/server_facts.h"
#include "common/options/serve_flags.h"

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr Duration kEnginesMax = std::chrono::seconds(30);
constexpr int kPollMilliseconds = 10;
constexpr char kCompletions[] = "/v1/completions";

// A name that neither we nor the server know: the nearest of both.
Status check_names(std::span<const Flag> own, Words rest) {
  std::vector<std::string_view> known = {"help", "config"};
  for (const FlagRow& row : serve_flags()) {
    if (row.effect != FlagEffect::kInternal) known.push_back(row.name);
  }
  const std::size_t of_server = known.size();
  for (const Flag& flag : own) known.push_back(flag.name);
  for (const char* const word : rest) {
    std::string_view text(word);
    if (!text.starts_with("--")) continue;
    std::string name(text.substr(2, text.find('=') - 2));
    std::replace(name.begin(), name.end(), '_', '-');
    const auto is_known = [&](std::string_view candidate) {
      const auto end = known.begin() + static_cast<std::ptrdiff_t>(of_server);
      return std::find(known.begin(), end, candidate) != end;
    };
    if (is_known(name) || (name.starts_with("no-") && is_known(name.substr(3)))) continue;
    return unknown_flag(name, known);
  }
  return absl::OkStatus();
}

// What a server of one measurement cannot be.
Status check_server(const ServeOptions& options) {
  if (options.model.model.empty()) {
    return error(kBad, "no model is given: name a directory or a hub id");
  }
  if (options.parallel.headless) {
    return error(kBad, "--headless: the server of this command is asked over HTTP");
  }
  if (options.server.port != ServerOptions{}.port) {
    return error(kBad, "--port: %d; the server of this command takes a free port",
                 options.server.port);
  }
  if (!options.server.ssl_certfile.empty()) {
    return error(kBad, "--ssl-certfile: '%s'; the server of this command is asked over plain HTTP",
                 options.server.ssl_certfile);
  }
  return absl::OkStatus();
}

// "Ready" is said of the cluster; its front end may learn of its engines a moment later.
Status wait_engines(const ServerUrl& url, uint32_t count, StopSignal& stop) {
  const Deadline deadline = Deadline::after(kEnginesMax);
  while (engines_ready(url).value_or(0) < count) {
    if (deadline.has_passed()) {
      return error(StatusCode::kDeadlineExceeded, "not all of %d engines are ready", count);
    }
    pollfd entry{stop.fd(), POLLIN, 0};
    ::poll(&entry, 1, kPollMilliseconds);
    if (stop.update() != StopSignal::Level::kRun) {
      return error(StatusCode::kCancelled, "interrupted while the engines started");
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<EngineCommand> parse_engine_command(std::span<const Flag> own, Words words) {
  EngineCommand command;
  TRIREME_RETURN_IF_ERROR(parse_flags(own, words, &command.flags));
  TRIREME_RETURN_IF_ERROR(check_names(own, command.flags));
  TRIREME_ASSIGN_OR_RETURN(command.serve, parse_serve_flags(command.flags));
  TRIREME_RETURN_IF_ERROR(check_server(command.serve));
  return command;
}

StatusOr<EngineBench> EngineBench::start(const EngineCommand& command, const PlanOptions& plan,
                                         uint32_t choices, uint64_t requests_max,
                                         StopSignal& stop) {
  const ServerOptions& server_options = command.serve.server;
  std::vector<const char*> flags = command.flags;
  // All may wait inside: what is refused would not be measured.
  const std::string requests_text = std::to_string(requests_max);
  const std::string tokens_text =
      std::to_string(requests_max * std::max<uint64_t>(plan.prefix_len + 2ULL * plan.input_len, 1));
  if (server_options.queued_requests_max == 0) {
    flags.insert(flags.end(), {"--max-num-queued-reqs", requests_text.c_str()});
  }
  if (server_options.queued_tokens_max == 0) {
    flags.insert(flags.end(), {"--max-num-queued-tokens", tokens_text.c_str()});
  }
  Headers headers;
  if (!server_options.api_keys.empty()) {
    headers.emplace_back("Authorization", "Bearer " + server_options.api_keys.front());
  }
  TRIREME_ASSIGN_OR_RETURN(LocalServer server, LocalServer::start(flags, false, stop));
  TRIREME_RETURN_IF_ERROR(
      wait_engines(server.url(), command.serve.parallel.data_parallel_size, stop));
  TRIREME_ASSIGN_OR_RETURN(const ServedModel model, first_model(server.url(), headers));
  const Vocabulary vocabulary =
      find_vocabulary({command.serve.model.tokenizer, command.serve.model.model, model.root});
  TRIREME_ASSIGN_OR_RETURN(
      RequestBody body, RequestBody::make({.model = model.id,
                                           .is_stream = false,
                                           .choices = choices,
                                           .parameters = {{"temperature", "1"}, {"top_p", "1"}}}));
  EngineBench bench(std::move(server), RequestPlan(plan), std::move(body), stop);
  bench.headers_ = std::move(headers);
  bench.vocabulary_ = vocabulary.size;
  return bench;
}

StatusOr<LoadOutcome> EngineBench::run(const char* what, std::size_t begin, std::size_t batch_size,
                                       std::size_t batch_count,
                                       std::optional<uint32_t> max_concurrency) {
  const auto request_of = [&](std::size_t index) {
    const std::size_t first = begin + index * batch_size;
    std::vector<std::vector<uint32_t>> prompts;
    for (std::size_t i = 0; i < batch_size; ++i) {
      prompts.push_back(plan_.prompt(first + i, vocabulary_));
    }
    const uint32_t output_len = plan_.requests()[first].output_len;
    return request_text(server_.url(), "POST", kCompletions, headers_,
                        body_.batch_text(prompts, output_len));
  };
  const LoadJob job{.arrivals = std::vector<Duration>(batch_count),
                    .request_of = request_of,
                    .max_concurrency = max_concurrency};
  Progress progress(what, batch_count, true);
  TRIREME_ASSIGN_OR_RETURN(LoadOutcome outcome, run_load(server_.url(), job, progress, *stop_));
  for (const Sample& sample : outcome.samples) {
    if (sample.state == SampleState::kFailed) {
      return server_.annotate_death(
          error(StatusCode::kAborted, "a request failed: %s", sample.error));
    }
  }
  return outcome;
}

Status write_output(const std::string& path, const std::string& json) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::trunc);
  file << json << "\n";
  file.flush();
  if (file.good()) return absl::OkStatus();
  return error(StatusCode::kInternal, "--output-json: cannot write '%s'", path);
}

int run_measurement(const char* name, const Status& flags,
                    const std::function<StatusOr<bool>(StopSignal&)>& measure) {
  const auto fail = [name](const Status& status, int code) {
    std::fprintf(stderr, "trireme bench %s: %s\n", name, std::string(status.message()).c_str());
    return code;
  };
  if (!flags.ok()) return fail(flags, kExitWrongFlags);
  auto stop = StopSignal::install();
  if (!stop.ok()) return fail(stop.status(), kExitFailed);
  const StatusOr<bool> was_interrupted = measure(*stop);
  if (was_interrupted.ok()) return *was_interrupted ? kExitInterrupted : 0;
  const bool is_cancelled = was_interrupted.status().code() == StatusCode::kCancelled;
  return fail(was_interrupted.status(), is_cancelled ? kExitInterrupted : kExitFailed);
}

}  // namespace trireme::bench
