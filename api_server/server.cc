#include "api_server/server.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "api_server/engine_client/engine_loop.h"
#include "api_server/http/asio.h"
#include "api_server/http/http_server.h"
#include "api_server/load_lines.h"
#include "api_server/model_info.h"
#include "api_server/service.h"
#include "common/log.h"
#include "common/random.h"
#include "common/unique_fd.h"
#include "common/zmq/context.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"

namespace trireme::api {
namespace {

// One key a line: no header, so no key, holds a line's end.
constexpr char kGivenKeysVariable[] = "TRIREME_GIVEN_API_KEYS";
constexpr std::chrono::milliseconds kDrainTick(10);
// For the last answers of a forced end to go out; what is left then is cut.
constexpr std::chrono::milliseconds kLastAnswersMax(500);
constexpr std::chrono::milliseconds kPublishInterval(200);
constexpr std::chrono::seconds kLoadTick(1);

// The address of this host that the way to the coordinator leaves by; nothing is sent.
StatusOr<std::string> address_towards(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
      code != 0) {
    return error(StatusCode::kInvalidArgument, "--data-parallel-address %s: %s", host,
                 ::gai_strerror(code));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  const UniqueFd fd(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  char text[NI_MAXHOST];
  if (::connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof(text), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
    return error(StatusCode::kInvalidArgument, "--data-parallel-address %s: no way there", host);
  }
  return std::string(text);
}

// max_seq_length of an embedding model is within its positions.
uint32_t tokens_max(const ModelInfo& model, const std::optional<PoolerInfo>& pooler) {
  const uint32_t own = pooler ? pooler->prompt_tokens_max : 0;
  return own > 0 && (model.tokens_max == 0 || own < model.tokens_max) ? own : model.tokens_max;
}

EngineClientOptions client_options(const ServeOptions& options, const ModelInfo& model,
                                   const std::optional<PoolerInfo>& pooler) {
  const uint32_t asked = options.model.model_tokens_max;
  const member::RankRange served = member::served_ranks(options);
  return {.engine_count = options.parallel.data_parallel_size,
          .served_first = served.first,
          .served_count = served.count,
          .front_ends = std::max(1U, options.server.api_server_count),
          .queued_requests_max = options.server.queued_requests_max,
          .queued_tokens_max = options.server.queued_tokens_max,
          .model_tokens_max = asked > 0 ? asked : tokens_max(model, pooler)};
}

const std::string& tokenizer_directory(const ServeOptions& options) {
  const std::string& given = options.model.tokenizer;
  return given.empty() ? options.model_directory() : given;
}

// With Python's words, as vLLM's dashboards have them.
std::string cache_labels(const ServeOptions& options) {
  return absl::StrFormat(
      ",cache_dtype=\"%s\",enable_prefix_caching=\"%s\",gpu_memory_utilization=\"%g\"", "auto",
      options.scheduler.prefix_caching ? "True" : "False",
      options.scheduler.memory_utilization.value_or(0.9));
}

ServiceOptions service_options(const ServeOptions& options, const ModelInfo& model,
                               const text::Tokenizer& tokenizer) {
  ServiceOptions out;
  out.model_names = options.model.served_model_names;
  if (out.model_names.empty()) out.model_names.push_back(options.model.model);
  out.model_root = options.model_directory();
  out.cache_labels = cache_labels(options);
  out.api_keys = options.server.api_keys;
  out.root_path = options.server.root_path;
  out.response_role = options.server.response_role;
  out.version = TRIREME_VERSION;
  out.limits.logprobs_max = options.server.logprobs_max;
  out.defaults = model.defaults;
  out.eos_token_ids = model.eos_token_ids;
  if (tokenizer.eos() && tokenizer.eos()->id) {
    const int32_t eos = *tokenizer.eos()->id;
    if (std::find(out.eos_token_ids.begin(), out.eos_token_ids.end(), eos) ==
        out.eos_token_ids.end()) {
      out.eos_token_ids.push_back(eos);
    }
  }
  out.limits.vocabulary_size = model.vocabulary_size > 0
                                   ? model.vocabulary_size
                                   : static_cast<uint32_t>(tokenizer.vocabulary_size());
  // Front ends that share a seed draw different ones from it.
  out.seed =
      options.model.seed ? *options.model.seed + options.internal.api_server_index : entropy64();
  out.stream_interval = options.server.stream_interval;
  out.usage_always = options.server.usage_always;
  out.return_tokens_as_ids = options.server.return_tokens_as_token_ids;
  out.log_requests = options.server.log_requests;
  out.dev_mode = options.server.dev_mode;
  out.limits.trusts_chat_template = options.server.trust_request_chat_template;
  out.tokenizer_directory = tokenizer_directory(options);
  return out;
}

// A model without a template serves completions; a broken one, or one asked for, is an error.
StatusOr<std::optional<text::ChatTemplate>> load_template(const ServeOptions& options,
                                                          const std::string& directory) {
  const bool is_asked_for = !options.server.chat_template.empty();
  auto loaded = is_asked_for
                    ? text::ChatTemplate::load_with_option(directory, options.server.chat_template)
                    : text::ChatTemplate::load(directory);
  if (loaded.ok()) return std::optional(*std::move(loaded));
  if (!is_asked_for && loaded.status().code() == StatusCode::kNotFound) return std::nullopt;
  return annotate(loaded.status(), is_asked_for ? "--chat-template" : "chat template");
}

class Process {
 public:
  Process(const ServeOptions& options, StopSignal& stop, const process::Pulse& pulse)
      : options_(options),
        stop_(stop),
        pulse_(pulse),
        stop_fd_(io_.get_executor(), ::dup(stop.fd())),
        drain_timer_(io_.get_executor()),
        publish_timer_(io_.get_executor()),
        load_timer_(io_.get_executor()),
        pulse_timer_(io_.get_executor()),
        load_lines_(options.server.aggregate_log_stats, now()) {}

  Status open();
  Status run();

 private:
  [[nodiscard]] Status open_http();
  [[nodiscard]] Status open_counters();
  [[nodiscard]] Status open_pause_register();
  [[nodiscard]] Status join();
  void watch_stop();
  void publish();
  void tell_load();
  void beat();
  void begin_drain();
  void watch_drain();
  void end_requests();
  void take(const member::Event& event);
  void finish(Status status);

  const ServeOptions& options_;
  StopSignal& stop_;
  process::Pulse pulse_;
  asio::io_context io_{1};
  std::unique_ptr<zmq::Context> zmq_;
  std::optional<text::Tokenizer> tokenizer_;
  std::optional<text::ChatTemplate> template_;
  std::unique_ptr<EngineLoop> engines_;
  std::optional<EncodePool> encoder_;
  std::optional<Service> service_;
  std::unique_ptr<HttpServer> http_;
  asio::posix::basic_stream_descriptor<Executor> stop_fd_;
  Timer drain_timer_;
  Timer publish_timer_;
  Timer load_timer_;
  Timer pulse_timer_;
  LoadLines load_lines_;
  Instant drain_deadline_;
  bool has_ended_requests_ = false;
  Status result_;
};

Status Process::open() {
  const std::string& directory = options_.model_directory();
  TRIREME_ASSIGN_OR_RETURN(const ModelInfo model,
                           read_model_info(directory, options_.model.generation_config));
  TRIREME_ASSIGN_OR_RETURN(std::optional<PoolerInfo> pooler, read_pooler_info(options_));
  auto tokenizer = text::Tokenizer::load(tokenizer_directory(options_));
  if (!tokenizer.ok() && !options_.model.tokenizer.empty()) {
    return annotate(tokenizer.status(), "--tokenizer");
  }
  TRIREME_ASSIGN_OR_RETURN(tokenizer_, std::move(tokenizer));
  TRIREME_ASSIGN_OR_RETURN(template_, load_template(options_, tokenizer_directory(options_)));
  TRIREME_ASSIGN_OR_RETURN(zmq_, member::make_cluster_context(options_));
  std::string host = "127.0.0.1";
  if (!member::is_one_node(options_)) {
    TRIREME_ASSIGN_OR_RETURN(
        host, address_towards(member::control_host(options_), member::control_port(options_)));
  }
  TRIREME_ASSIGN_OR_RETURN(
      engines_, EngineLoop::open(io_, *zmq_, host, client_options(options_, model, pooler)));
  encoder_.emplace(io_, *tokenizer_);
  ServiceOptions service = service_options(options_, model, *tokenizer_);
  service.pooler = std::move(pooler);
  service_.emplace(std::move(service), engines_->client(), *tokenizer_,
                   template_ ? &*template_ : nullptr, *encoder_);
  TRIREME_RETURN_IF_ERROR(open_http());
  TRIREME_RETURN_IF_ERROR(open_counters());
  TRIREME_RETURN_IF_ERROR(open_pause_register());
  return join();
}

Status Process::open_http() {
  const HttpServerOptions http{.host = options_.server.host,
                               .port = options_.server.port,
                               .listen_fd = options_.internal.listen_fd,
                               .reuse_port = options_.server.api_server_count > 1,
                               .ssl_certfile = options_.server.ssl_certfile,
                               .ssl_keyfile = options_.server.ssl_keyfile};
  TRIREME_ASSIGN_OR_RETURN(http_, HttpServer::open(io_, http, [this](auto exchange) {
                             service_->handle(std::move(exchange));
                           }));
  service_->set_http_counters(&http_->counters());
  return {};
}

Status Process::open_counters() {
  const int fd = options_.internal.counters_fd;
  if (fd < 0) return {};
  const uint32_t slot =
      options_.internal.api_server_index - member::first_api_server_index(options_);
  TRIREME_ASSIGN_OR_RETURN(CounterBoard board, CounterBoard::attach(UniqueFd(fd), slot));
  service_->set_counter_board(std::move(board));
  publish();
  return {};
}

Status Process::open_pause_register() {
  const int fd = options_.internal.pause_fd;
  if (fd < 0) return {};
  TRIREME_ASSIGN_OR_RETURN(PauseRegister shared, PauseRegister::attach(UniqueFd(fd)));
  engines_->client().calls().share(std::move(shared));
  return {};
}

void Process::publish() {
  publish_timer_.expires_after(kPublishInterval);
  publish_timer_.async_wait([this](ErrorCode code) {
    if (code) return;
    service_->publish_counters();
    publish();
  });
}

void Process::tell_load() {
  for (const std::string& line : load_lines_.next(service_->engine_rows(), now())) {
    log::tell("load", line);
  }
  load_timer_.expires_after(kLoadTick);
  load_timer_.async_wait([this](ErrorCode code) {
    if (!code) tell_load();
  });
}

void Process::beat() {
  pulse_.beat();
  pulse_timer_.expires_after(process::kPulseInterval);
  pulse_timer_.async_wait([this](ErrorCode code) {
    if (!code) beat();
  });
}

Status Process::join() {
  member::MemberIdentity identity{.role = wire::Role::kApiServer,
                                  .index = options_.internal.api_server_index,
                                  .incarnation = Incarnation{entropy64()},
                                  .config = member::cluster_config(options_)};
  TRIREME_ASSIGN_OR_RETURN(member::MemberLink link,
                           member::MemberLink::open(*zmq_, options_, std::move(identity)));
  wire::MemberReady ready;
  ready.addresses.push_back(engines_->endpoint());
  ready.http_address = absl::StrFormat(
      "%s:%u", options_.server.host.empty() ? "0.0.0.0" : options_.server.host, http_->port());
  log::info("http_listening",
            {{"host", options_.server.host.empty() ? "0.0.0.0" : options_.server.host},
             {"port", http_->port()},
             {"engines_at", engines_->endpoint()}});
  return engines_->join(std::move(link), std::move(ready),
                        [this](const member::Event& event) { take(event); });
}

Status Process::run() {
  watch_stop();
  beat();
  // One of a node's front ends tells of all.
  const bool is_first =
      options_.internal.api_server_index == member::first_api_server_index(options_);
  if (options_.server.log_stats && is_first) tell_load();
  io_.run();
  engines_->leave(result_.ok() ? "stopped" : std::string(result_.message()));
  http_->close();
  return result_;
}

void Process::take(const member::Event& event) {
  if (const auto* refused = std::get_if<member::Refused>(&event); refused && refused->is_final) {
    finish(
        error(StatusCode::kFailedPrecondition, "the coordinator refused us: %s", refused->reason));
  }
}

void Process::watch_stop() {
  stop_fd_.async_wait(asio::posix::descriptor_base::wait_read, [this](ErrorCode code) {
    if (code) return;
    const StopSignal::Level level = stop_.update();
    if (level != StopSignal::Level::kRun) begin_drain();
    if (level == StopSignal::Level::kForce) end_requests();
    watch_stop();
  });
}

void Process::begin_drain() {
  if (engines_->client().is_draining()) return;
  log::info("drain", {{"requests_open", engines_->client().requests_open()},
                      {"seconds_max", options_.server.shutdown_timeout_seconds}});
  engines_->set_draining();
  http_->drain();
  drain_deadline_ = now() + std::chrono::seconds(options_.server.shutdown_timeout_seconds);
  watch_drain();
}

void Process::watch_drain() {
  const bool is_late = now() >= drain_deadline_;
  if (http_->is_quiet() || (is_late && has_ended_requests_)) {
    finish({});
    return;
  }
  if (is_late) end_requests();
  drain_timer_.expires_after(kDrainTick);
  drain_timer_.async_wait([this](ErrorCode code) {
    if (!code) watch_drain();
  });
}

// Who still waits gets an answer that says so, rather than a connection that is cut.
void Process::end_requests() {
  if (has_ended_requests_) return;
  has_ended_requests_ = true;
  log::warning("stop_forced", {{"requests_open", engines_->client().requests_open()}});
  engines_->fail_all(error(StatusCode::kUnavailable,
                           "the server was stopped before this request was done; try another one"));
  drain_deadline_ = now() + kLastAnswersMax;
}

void Process::finish(Status status) {
  result_ = std::move(status);
  io_.stop();
}

}  // namespace

void add_api_keys_of_environment(ServeOptions& options) {
  if (const char* const given = std::getenv(kGivenKeysVariable); given != nullptr) {
    options.server.api_keys.clear();
    std::istringstream lines(given);
    for (std::string key; std::getline(lines, key);) options.server.api_keys.push_back(key);
    return;
  }
  for (const char* const name : {"TRIREME_API_KEY", "VLLM_API_KEY"}) {
    const char* const key = std::getenv(name);
    if (key != nullptr && *key != '\0') options.server.api_keys.emplace_back(key);
  }
}

Status read_dev_mode_of_environment(ServeOptions& options) {
  for (const char* const name : {"TRIREME_SERVER_DEV_MODE", "VLLM_SERVER_DEV_MODE"}) {
    const char* const text = std::getenv(name);
    if (text == nullptr || *text == '\0') continue;
    int64_t number = 0;
    const char* const text_end = text + std::strlen(text);
    const auto [end, code] = std::from_chars(text, text_end, number);
    if (code != std::errc() || end != text_end) {
      return error(StatusCode::kInvalidArgument, "%s: must be 0 or 1, got '%s'", name, text);
    }
    options.server.dev_mode |= number != 0;
  }
  return {};
}

void give_api_keys_to_children(const ServeOptions& options) {
  std::string lines;
  for (const std::string& key : options.server.api_keys) lines += key + "\n";
  ::setenv(kGivenKeysVariable, lines.c_str(), /*overwrite=*/1);
}

Status run_api_server(const ServeOptions& options, StopSignal& stop, const process::Pulse& pulse) {
  Process process(options, stop, pulse);
  TRIREME_RETURN_IF_ERROR(process.open());
  return process.run();
}

}  // namespace trireme::api
