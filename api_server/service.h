// Service: what each route does. Knows no sockets: exchanges come in, answers go out by them.
//
// The route table in service.cc is the list of what there is. If there are API keys, paths below
// /v1 (and vLLM's /v2, /inference, /cohere, so that they tell nothing either) need one, /cluster,
// which names hosts and processes, /experts, which asks the engines, and the routes that hold the
// engines, which are there in dev mode only; all others are open, as in vLLM: probes, metrics,
// /tokenize. While draining, generation is refused with 503 and Retry-After; /ready turns 503.
// Threads: the http thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api_server/api_key.h"
#include "api_server/counters/counter_board.h"
#include "api_server/dev_routes.h"
#include "api_server/engine_client/engine_client.h"
#include "api_server/http/http_server.h"
#include "api_server/openai/encode_pool.h"
#include "api_server/openai/front_end_counters.h"
#include "api_server/openai/generate_call.h"
#include "api_server/openai/generate_request.h"
#include "api_server/openai/metrics.h"
#include "api_server/openai/pooler_info.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace trireme::api {

struct ServiceOptions {
  std::vector<std::string> model_names;  // The first one answers; at least one.
  std::string model_root;                // What /v1/models shows as root.
  std::string tokenizer_directory;       // Special tokens of templates that requests bring.
  std::vector<std::string> api_keys;
  std::string root_path;  // Stripped off every path.
  std::string response_role = "assistant";
  std::string version;
  RequestLimits limits;  // vocabulary_size is needed.
  SamplingDefaults defaults;
  std::vector<int32_t> eos_token_ids;
  std::optional<PoolerInfo> pooler;  // The model is served for embeddings, and not for text.
  std::string cache_labels;          // Of vllm:cache_config_info.
  uint64_t seed = 0;                 // Of the seeds drawn for requests that bring none.
  uint32_t stream_interval = 1;      // At least, whatever a request says.
  bool return_tokens_as_ids = false;
  bool usage_always = false;  // At the end of each stream.
  bool log_requests = false;
  bool dev_mode = false;
};

class Service {
 public:
  // Everything given outlives the service. `chat_template` null: the model has none.
  Service(ServiceOptions options, EngineClient& engines, const text::Tokenizer& tokenizer,
          const text::ChatTemplate* chat_template, EncodePool& encoder);

  void handle(std::shared_ptr<Exchange> exchange);
  void set_http_counters(const HttpCounters* counters) { http_ = counters; }
  // Shared with the node's other front ends: ours are written to it, theirs shown with ours.
  void set_counter_board(CounterBoard board);
  void publish_counters();
  // What the engines last said to any of them.
  [[nodiscard]] std::vector<FrontEndCounters::EngineRow> engine_rows() const {
    return all_counters().engines;
  }
  [[nodiscard]] const Metrics& metrics() const { return metrics_; }

 private:
  friend struct Routes;

  void completions(const std::shared_ptr<Exchange>& exchange);
  void chat_completions(const std::shared_ptr<Exchange>& exchange);
  void embeddings(const std::shared_ptr<Exchange>& exchange);
  void tokenize(const std::shared_ptr<Exchange>& exchange);
  void detokenize(const std::shared_ptr<Exchange>& exchange);
  void models(const std::shared_ptr<Exchange>& exchange);
  void health(const std::shared_ptr<Exchange>& exchange);
  void live(const std::shared_ptr<Exchange>& exchange);
  void ready(const std::shared_ptr<Exchange>& exchange);
  void version(const std::shared_ptr<Exchange>& exchange);
  void load(const std::shared_ptr<Exchange>& exchange);
  void metrics_page(const std::shared_ptr<Exchange>& exchange);
  void cluster(const std::shared_ptr<Exchange>& exchange);
  void pause(const std::shared_ptr<Exchange>& exchange) { dev_routes_.pause(exchange); }
  void resume(const std::shared_ptr<Exchange>& exchange) { dev_routes_.resume(exchange); }
  void is_paused(const std::shared_ptr<Exchange>& exchange) { dev_routes_.is_paused(exchange); }
  void reset_prefix_cache(const std::shared_ptr<Exchange>& exchange) {
    dev_routes_.reset_prefix_cache(exchange);
  }
  void sleep(const std::shared_ptr<Exchange>& exchange) { dev_routes_.sleep(exchange); }
  void wake_up(const std::shared_ptr<Exchange>& exchange) { dev_routes_.wake_up(exchange); }
  void is_sleeping(const std::shared_ptr<Exchange>& exchange) { dev_routes_.is_sleeping(exchange); }
  void experts(const std::shared_ptr<Exchange>& exchange) { dev_routes_.experts(exchange); }

  void generate(const std::shared_ptr<Exchange>& exchange, GenerateRequest request);
  void reply_tokens(Exchange& exchange, const std::vector<int32_t>& tokens, bool with_strings);
  void reply(Exchange& exchange, const HttpReply& reply);
  void reply_ready(Exchange& exchange, bool is_ready);
  [[nodiscard]] Status check_can_serve() const;
  // Of the two kinds a model is served for one.
  [[nodiscard]] Status check_kind(bool wants_embeddings) const;
  // Of this front end in all its lives.
  [[nodiscard]] FrontEndCounters own_counters() const;
  // Of all front ends of the node.
  [[nodiscard]] FrontEndCounters all_counters() const;
  [[nodiscard]] Status check_tokens(const std::vector<int32_t>& tokens) const;
  [[nodiscard]] Status check_model(const std::string& model) const;
  // Renders a chat into its one prompt.
  [[nodiscard]] Status render(GenerateRequest& request) const;

  const ServiceOptions options_;
  const ApiKeys api_keys_;
  EngineClient& engines_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* chat_template_;
  EncodePool& encoder_;
  RequestReader reader_;
  Metrics metrics_;
  DevRoutes dev_routes_;
  CallContext context_;
  const HttpCounters* http_ = nullptr;
  std::optional<CounterBoard> board_;
};

}  // namespace trireme::api
