#include "cli/bench/engine_bench.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "cli/bench/progress.h"
#include "cli/bench/server_facts.h"
#include "common/options/serve_flags.h"

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr Duration kEnginesMax = std::chrono::seconds(30);
constexpr int kPollMilliseconds = 10;
constexpr char kCompletions[] = "/v1/completions";
constexpr char kChatCompletions[] = "/v1/chat/completions";

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

// How many a vocabulary makes of a word, and a template adds, is not known: more than any.
uint64_t prompt_tokens_max(const EngineLoad& load) {
  constexpr uint64_t kOfWord = 8;
  constexpr uint64_t kOfTemplate = 4096;
  const uint64_t words = std::max<uint64_t>(load.plan.prefix_len + 2ULL * load.plan.input_len, 1);
  return load.is_chat ? words * kOfWord + kOfTemplate : words;
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

StatusOr<EngineBench> EngineBench::start(const EngineCommand& command, const EngineLoad& load,
                                         StopSignal& stop) {
  const ServerOptions& server_options = command.serve.server;
  std::vector<const char*> flags = command.flags;
  // All may wait inside: what is refused would not be measured.
  const std::string requests_text = std::to_string(load.requests_max);
  const std::string tokens_text = std::to_string(load.requests_max * prompt_tokens_max(load));
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
                                           .is_chat = load.is_chat,
                                           .is_stream = false,
                                           .choices = load.choices,
                                           .parameters = {{"temperature", "1"}, {"top_p", "1"}}}));
  EngineBench bench(std::move(server), load, std::move(body), stop);
  bench.headers_ = std::move(headers);
  bench.vocabulary_ = vocabulary.size;
  return bench;
}

std::string EngineBench::request(std::size_t begin, std::size_t batch_size) const {
  const uint32_t output_len = plan_.requests()[begin].output_len;
  if (is_chat_) {
    return request_text(server_.url(), "POST", kChatCompletions, headers_,
                        body_.text(plan_.prompt(begin, vocabulary_), output_len));
  }
  std::vector<std::vector<uint32_t>> prompts;
  for (std::size_t i = 0; i < batch_size; ++i) {
    prompts.push_back(plan_.prompt(begin + i, vocabulary_));
  }
  return request_text(server_.url(), "POST", kCompletions, headers_,
                      body_.batch_text(prompts, output_len));
}

StatusOr<LoadOutcome> EngineBench::run(const EngineRun& run) {
  const auto request_of = [&](std::size_t index) {
    return request(run.begin + index * run.batch_size, run.batch_size);
  };
  const LoadJob job{.arrivals = std::vector<Duration>(run.batch_count),
                    .request_of = request_of,
                    .max_concurrency = run.max_concurrency,
                    .is_prequeued = run.is_prequeued};
  Progress progress(run.what, run.batch_count, true);
  TRIREME_ASSIGN_OR_RETURN(LoadOutcome outcome, run_load(server_.url(), job, progress, *stop_));
  for (const Sample& sample : outcome.samples) {
    if (sample.state == SampleState::kFailed) {
      return server_.annotate_death(
          error(StatusCode::kAborted, "a request failed: %s", sample.error));
    }
  }
  return outcome;
}

Status check_output(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code code;
  const std::filesystem::path file(path);
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  if (!std::filesystem::is_directory(folder, code)) {
    return error(kBad, "--output-json: there is no directory '%s'", folder.string());
  }
  const bool is_there = std::filesystem::exists(file, code);
  const std::string written = is_there ? path : folder.string();
  if (std::filesystem::is_directory(file, code) || ::access(written.c_str(), W_OK) != 0) {
    return error(kBad, "--output-json: cannot write '%s'", path);
  }
  return absl::OkStatus();
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
