#include "api_server/service.h"

#include <algorithm>
#include <charconv>

#include "api_server/api_error.h"
#include "api_server/cluster_page.h"
#include "api_server/field_error.h"
#include "api_server/openai/embedding_call.h"
#include "api_server/openai/status_reply.h"
#include "common/clock.h"
#include "common/json_text.h"
#include "common/log.h"

namespace trireme::api {

struct Route {
  std::string_view path;
  std::string_view allow;  // Also what a 405 says.
  void (Service::*run)(const std::shared_ptr<Exchange>& exchange);
  bool is_dev = false;
  bool needs_key = is_dev;
};

struct Routes {
  static constexpr Route kTable[] = {
      {"/v1/completions", "POST", &Service::completions},
      {"/v1/chat/completions", "POST", &Service::chat_completions},
      {"/v1/embeddings", "POST", &Service::embeddings},
      {"/v1/models", "GET, HEAD", &Service::models},
      {"/tokenize", "POST", &Service::tokenize},
      {"/detokenize", "POST", &Service::detokenize},
      {"/health", "GET, HEAD", &Service::health},
      {"/live", "GET, HEAD", &Service::live},
      {"/ready", "GET, HEAD", &Service::ready},
      {"/ping", "GET, HEAD, POST", &Service::health},
      {"/version", "GET, HEAD", &Service::version},
      {"/load", "GET, HEAD", &Service::load},
      {"/metrics", "GET, HEAD", &Service::metrics_page},
      {"/cluster", "GET, HEAD", &Service::cluster, false, true},
      {"/experts", "GET, HEAD", &Service::experts, false, true},
      {"/pause", "POST", &Service::pause, true},
      {"/resume", "POST", &Service::resume, true},
      {"/is_paused", "GET, HEAD", &Service::is_paused, true},
      {"/reset_prefix_cache", "POST", &Service::reset_prefix_cache, true},
      {"/sleep", "POST", &Service::sleep, true},
      {"/wake_up", "POST", &Service::wake_up, true},
      {"/is_sleeping", "GET, HEAD", &Service::is_sleeping, true},
  };
  [[nodiscard]] static const Route* find(std::string_view path) {
    for (const Route& route : kTable) {
      if (route.path == path) return &route;
    }
    return nullptr;
  }
};

namespace {

bool needs_key(std::string_view path, const Route* route) {
  if (route != nullptr && route->needs_key) return true;
  constexpr std::string_view kProtected[] = {"/v1", "/v2", "/inference", "/cohere"};
  return std::any_of(std::begin(kProtected), std::end(kProtected),
                     [&](std::string_view prefix) { return path.starts_with(prefix); });
}

bool allows(const Route& route, Method method) {
  switch (method) {
    case Method::kGet:
    case Method::kHead:
      return route.allow.starts_with("GET");
    case Method::kPost:
      return route.allow.ends_with("POST");
    case Method::kOther:
      break;
  }
  return false;
}

std::size_t longest_token(const text::Tokenizer& tokenizer) {
  std::size_t longest = 1;
  for (std::size_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    longest = std::max(longest, tokenizer.token_bytes(static_cast<int32_t>(id)).size());
  }
  return longest;
}

StatusOr<std::optional<uint32_t>> pinned_rank(const HttpRequest& request) {
  if (!request.data_parallel_rank) return std::optional<uint32_t>();
  const std::string& text = *request.data_parallel_rank;
  uint32_t rank = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (code != std::errc() || end != text.data() + text.size()) {
    return field_error("X-data-parallel-rank", "expected an integer that is not negative");
  }
  return std::optional<uint32_t>(rank);
}

}  // namespace

Service::Service(ServiceOptions options, EngineClient& engines, const text::Tokenizer& tokenizer,
                 const text::ChatTemplate* chat_template, EncodePool& encoder)
    : options_(std::move(options)),
      api_keys_(options_.api_keys),
      engines_(engines),
      tokenizer_(tokenizer),
      chat_template_(chat_template),
      encoder_(encoder),
      reader_(options_.limits, options_.defaults),
      dev_routes_(engines.calls(), metrics_),
      context_{.engines = engines,
               .tokenizer = tokenizer,
               .encoder = encoder,
               .metrics = metrics_,
               .random = Random(options_.seed),
               .eos_token_ids = options_.eos_token_ids,
               .vocabulary_size = options_.limits.vocabulary_size,
               .token_bytes_max = longest_token(tokenizer),
               .response_role = options_.response_role} {}

void Service::handle(std::shared_ptr<Exchange> exchange) {
  const HttpRequest& request = exchange->request();
  std::string_view path = request.path;
  if (!options_.root_path.empty() && path.starts_with(options_.root_path)) {
    path.remove_prefix(options_.root_path.size());
  }
  const Route* const route = Routes::find(path);
  // Before anything is said about what exists.
  if (needs_key(path, route) && !api_keys_.allows(request.authorization)) {
    reply(*exchange, error_reply(401, "authentication_error",
                                 "missing or wrong API key (Authorization: Bearer KEY)"));
    return;
  }
  if (route == nullptr) {
    reply(*exchange, error_reply(404, "not_found_error",
                                 absl::StrFormat("there is no %s here", std::string(path))));
    return;
  }
  if (route->is_dev && !options_.dev_mode) {
    reply(*exchange, error_reply(404, "not_found_error",
                                 absl::StrFormat("%s is there only if the server was started with "
                                                 "VLLM_SERVER_DEV_MODE=1 in its environment",
                                                 std::string(path))));
    return;
  }
  if (!allows(*route, request.method)) {
    HttpReply refusal = error_reply(405, "invalid_request_error",
                                    "the method is not allowed here, see the Allow header");
    refusal.allow = route->allow;
    reply(*exchange, refusal);
    return;
  }
  (this->*route->run)(exchange);
}

void Service::reply(Exchange& exchange, const HttpReply& reply) {
  ++metrics_.replies[reply.status];
  exchange.reply(reply);
}

Status Service::check_can_serve() const {
  if (engines_.is_draining()) {
    return error(StatusCode::kUnavailable, "the server is shutting down; try another one");
  }
  if (engines_.ready_count() == 0) {
    return error(StatusCode::kUnavailable, "no engine is ready; try again later");
  }
  return {};
}

Status Service::check_model(const std::string& model) const {
  const auto& names = options_.model_names;
  if (model.empty() || std::find(names.begin(), names.end(), model) != names.end()) return {};
  return coded_field_error(StatusCode::kNotFound, "model",
                           absl::StrFormat("The model `%s` does not exist.", model));
}

void Service::completions(const std::shared_ptr<Exchange>& exchange) {
  StatusOr<GenerateRequest> request = reader_.read_completion(exchange->request().body);
  if (!request.ok()) {
    reply_status(*exchange, metrics_, request.status());
    return;
  }
  generate(exchange, *std::move(request));
}

void Service::chat_completions(const std::shared_ptr<Exchange>& exchange) {
  StatusOr<GenerateRequest> request = reader_.read_chat(exchange->request().body);
  if (!request.ok()) {
    reply_status(*exchange, metrics_, request.status());
    return;
  }
  generate(exchange, *std::move(request));
}

void Service::generate(const std::shared_ptr<Exchange>& exchange, GenerateRequest request) {
  exchange->request().body = {};  // A long prompt is not kept twice.
  const StatusOr<std::optional<uint32_t>> rank = pinned_rank(exchange->request());
  Status status = rank.status();
  if (status.ok()) status = check_model(request.model);
  if (status.ok()) status = check_kind(false);
  if (status.ok()) status = check_can_serve();
  if (status.ok() && request.is_chat) status = render(request);
  if (!status.ok()) {
    reply_status(*exchange, metrics_, status);
    return;
  }
  request.tokens_as_ids |= options_.return_tokens_as_ids;
  request.include_usage |= request.stream && options_.usage_always;
  request.stream_interval = std::max(request.stream_interval, options_.stream_interval);
  if (options_.log_requests) {
    log::info("request", {{"request_id", exchange->id()},
                          {"prompts", request.prompts.size()},
                          {"n", request.n},
                          {"stream", request.stream}});
  }
  const std::string model = request.model.empty() ? options_.model_names.front() : request.model;
  GenerateCall::start(context_, exchange, std::move(request), model, *rank);
}

void Service::embeddings(const std::shared_ptr<Exchange>& exchange) {
  StatusOr<EmbeddingRequest> request = reader_.read_embedding(exchange->request().body);
  exchange->request().body = {};
  const StatusOr<std::optional<uint32_t>> rank = pinned_rank(exchange->request());
  Status status = request.status();
  if (status.ok()) status = rank.status();
  if (status.ok()) status = check_model(request->model);
  if (status.ok()) status = check_kind(true);
  if (status.ok()) status = check_can_serve();
  if (!status.ok()) {
    reply_status(*exchange, metrics_, status);
    return;
  }
  if (options_.log_requests) {
    log::info("request", {{"request_id", exchange->id()}, {"inputs", request->inputs.size()}});
  }
  std::string model = request->model.empty() ? options_.model_names.front() : request->model;
  EmbeddingCall::start(context_, exchange, *std::move(request), std::move(model), *options_.pooler,
                       *rank);
}

Status Service::check_kind(bool wants_embeddings) const {
  if (options_.pooler.has_value() == wants_embeddings) return {};
  const std::string& name = options_.model_names.front();
  if (wants_embeddings) {
    return coded_field_error(
        StatusCode::kInvalidArgument, "model",
        absl::StrFormat("The model `%s` generates text and gives no embeddings; a server started "
                        "with --runner pooling has those.",
                        name));
  }
  return coded_field_error(
      StatusCode::kInvalidArgument, "model",
      absl::StrFormat("The model `%s` is served for embeddings (/v1/embeddings) and generates no "
                      "text.",
                      name));
}

Status Service::render(GenerateRequest& request) const {
  std::optional<text::ChatTemplate> own;
  if (!request.chat_template.empty()) {
    auto loaded =
        text::ChatTemplate::load_with_source(options_.tokenizer_directory, request.chat_template);
    if (!loaded.ok()) return field_error("chat_template", std::string(loaded.status().message()));
    own = *std::move(loaded);
  }
  const text::ChatTemplate* const used = own ? &*own : chat_template_;
  if (used == nullptr) {
    return error(StatusCode::kInvalidArgument,
                 "this model has no chat template; give one with --chat-template, or use "
                 "/v1/completions");
  }
  text::ChatPrompt prompt{.messages_json = request.messages_json,
                          .add_generation_prompt = request.add_generation_prompt,
                          .continue_final_message = request.continue_final_message,
                          .now_unix_seconds = unix_milliseconds() / 1000};
  if (!request.tools_json.empty()) prompt.tools_json = request.tools_json;
  if (!request.kwargs_json.empty()) prompt.kwargs_json = request.kwargs_json;
  TRIREME_ASSIGN_OR_RETURN(std::string text, used->render(prompt));
  request.prompts.assign(1, Prompt{.text = std::move(text)});
  return {};
}

void Service::tokenize(const std::shared_ptr<Exchange>& exchange) {
  StatusOr<TokenizeRequest> request = reader_.read_tokenize(exchange->request().body);
  Status status = request.status();
  if (status.ok()) status = check_model(request->model);
  if (status.ok() && request->chat) {
    status = render(*request->chat);
    if (status.ok()) request->prompt = std::move(request->chat->prompts.front().text);
    request->add_special_tokens = request->chat->add_special_tokens;
  }
  if (!status.ok()) {
    reply_status(*exchange, metrics_, status);
    return;
  }
  std::vector<std::string> texts(1, std::move(request->prompt));
  encoder_.encode(std::move(texts), request->add_special_tokens,
                  [this, exchange,
                   with_strings = request->return_token_strings](StatusOr<EncodePool::Ids> ids) {
                    if (ids.ok()) {
                      reply_tokens(*exchange, ids->front(), with_strings);
                    } else {
                      reply_status(*exchange, metrics_, ids.status());
                    }
                  });
}

void Service::reply_tokens(Exchange& exchange, const std::vector<int32_t>& tokens,
                           bool with_strings) {
  HttpReply answer;
  answer.body = absl::StrFormat(R"({"count":%u,"max_model_len":%u,"tokens":)", tokens.size(),
                                engines_.model_tokens_max());
  append_integers(answer.body, tokens);
  answer.body += R"(,"token_strs":)";
  if (with_strings) {
    answer.body += '[';
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) answer.body += ',';
      append_json_string(answer.body, tokenizer_.token_text(tokens[i]));
    }
    answer.body += ']';
  } else {
    answer.body += "null";
  }
  answer.body += '}';
  reply(exchange, answer);
}

void Service::detokenize(const std::shared_ptr<Exchange>& exchange) {
  const auto request = reader_.read_detokenize(exchange->request().body);
  Status status = request.status();
  if (status.ok()) status = check_model(request->model);
  if (status.ok()) status = check_tokens(request->tokens);
  HttpReply answer;
  if (status.ok()) {
    const StatusOr<std::string> text = tokenizer_.decode(request->tokens, false);
    status = text.status();
    if (status.ok()) {
      answer.body = R"({"prompt":)";
      append_json_string(answer.body, *text);
      answer.body += '}';
    }
  }
  if (!status.ok()) {
    reply_status(*exchange, metrics_, status);
    return;
  }
  reply(*exchange, answer);
}

Status Service::check_tokens(const std::vector<int32_t>& tokens) const {
  for (const int32_t id : tokens) {
    if (static_cast<uint32_t>(id) < options_.limits.vocabulary_size) continue;
    return field_error("tokens", absl::StrFormat("token id %d is out of the vocabulary of %u", id,
                                                 options_.limits.vocabulary_size));
  }
  return {};
}

void Service::models(const std::shared_ptr<Exchange>& exchange) {
  HttpReply answer;
  answer.body = R"({"object":"list","data":[)";
  const int64_t created = unix_milliseconds() / 1000;
  const uint32_t tokens_max = engines_.model_tokens_max();
  for (std::size_t i = 0; i < options_.model_names.size(); ++i) {
    if (i > 0) answer.body += ',';
    answer.body += R"({"id":)";
    append_json_string(answer.body, options_.model_names[i]);
    answer.body +=
        absl::StrFormat(R"(,"object":"model","created":%d,"owned_by":"trireme","root":)", created);
    append_json_string(answer.body, options_.model_root);
    answer.body += R"(,"parent":null,"max_model_len":)";
    answer.body += tokens_max > 0 ? std::to_string(tokens_max) : "null";
    answer.body += '}';
  }
  answer.body += "]}";
  reply(*exchange, answer);
}

void Service::reply_ready(Exchange& exchange, bool is_ready) {
  if (is_ready) {
    reply(exchange, {.body = "{}"});
    return;
  }
  HttpReply answer = error_reply(503, "service_unavailable_error",
                                 engines_.is_draining() ? "shutting down" : "no engine is ready");
  answer.retry_after_seconds = 1;
  reply(exchange, answer);
}

// Healthy: somebody can answer, even if it is only what was already accepted.
void Service::health(const std::shared_ptr<Exchange>& exchange) {
  reply_ready(*exchange, engines_.ready_count() > 0);
}

void Service::live(const std::shared_ptr<Exchange>& exchange) { reply_ready(*exchange, true); }

void Service::ready(const std::shared_ptr<Exchange>& exchange) {
  reply_ready(*exchange, engines_.is_ready());
}

void Service::version(const std::shared_ptr<Exchange>& exchange) {
  HttpReply answer{.body = R"({"version":)"};
  append_json_string(answer.body, options_.version);
  answer.body += '}';
  reply(*exchange, answer);
}

void Service::load(const std::shared_ptr<Exchange>& exchange) {
  reply(*exchange,
        {.body = absl::StrFormat(R"({"server_load":%u})", all_counters().requests_open)});
}

void Service::set_counter_board(CounterBoard board) {
  board_ = std::move(board);
  publish_counters();
}

void Service::publish_counters() {
  if (board_) board_->write(own_counters().to_words(board_->words_max()));
}

FrontEndCounters Service::own_counters() const {
  FrontEndCounters own = FrontEndCounters::of(metrics_, engines_, http_);
  if (board_) own.add(FrontEndCounters::from_words(board_->base()), /*is_alive=*/false);
  return own;
}

FrontEndCounters Service::all_counters() const {
  FrontEndCounters all = own_counters();
  if (!board_) return all;
  for (uint32_t slot = 0; slot < board_->slots(); ++slot) {
    if (slot == board_->slot()) continue;
    all.add(FrontEndCounters::from_words(board_->read(slot)), /*is_alive=*/true);
  }
  return all;
}

void Service::metrics_page(const std::shared_ptr<Exchange>& exchange) {
  HttpReply answer{.content_type = "text/plain; version=0.0.4; charset=utf-8"};
  // So that a sibling that is asked next shows no less.
  publish_counters();
  answer.body = render_metrics({.counters = all_counters(),
                                .engines = engines_,
                                .model = options_.model_names.front(),
                                .cache_labels = options_.cache_labels,
                                .is_draining = engines_.is_draining()});
  reply(*exchange, answer);
}

void Service::cluster(const std::shared_ptr<Exchange>& exchange) {
  reply(*exchange, {.body = render_cluster(engines_, options_.version, now())});
}

}  // namespace trireme::api
