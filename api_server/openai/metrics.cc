#include "api_server/openai/metrics.h"

#include <algorithm>

#include "api_server/openai/front_end_counters.h"
#include "common/status.h"

namespace trireme::api {
namespace {

// vLLM's buckets.
constexpr double kLatency[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                               30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTtft[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                            1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
constexpr double kItl[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                           0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
constexpr double kTokens[] = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                              1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};
constexpr double kChoices[] = {1, 2, 5, 10, 20};
constexpr double kPreemptions[] = {0, 1, 2, 5, 10, 20, 50};

class Page {
 public:
  explicit Page(std::string_view model) {
    for (const char c : model) {
      if (c == '"' || c == '\\') model_ += '\\';
      model_ += c == '\n' ? ' ' : c;
    }
    model_ = "model_name=\"" + model_ + "\"";
  }
  void head(std::string_view name, std::string_view type, std::string_view help) {
    text_ += absl::StrFormat("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
  }
  void line(std::string_view name, std::string_view labels, double value) {
    text_ += absl::StrFormat("%s{%s%s} %.17g\n", name, model_, labels, value);
  }
  void single(std::string_view name, std::string_view type, std::string_view help, double value) {
    head(name, type, help);
    line(name, "", value);
  }
  void single(std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    single(name, type, help, static_cast<double>(value));
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& values) {
    head(name, "histogram", help);
    values.append(text_, name, model_);
  }
  void histogram(std::string_view name, std::string_view help, const StepTokens& values) {
    head(name, "histogram", help);
    Histogram::append(text_, name, model_, StepTokens::kBounds, values.counts,
                      static_cast<double>(values.sum));
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string model_;
  std::string text_;
};

struct EngineRow {
  std::string_view name;
  std::string_view type;
  std::string_view help;
  double (*value)(const wire::EngineStats& stats);
};
constexpr EngineRow kEngineRows[] = {
    {"vllm:num_requests_running", "gauge", "Requests in the running batch.",
     [](const wire::EngineStats& s) { return double(s.running); }},
    {"vllm:num_requests_waiting", "gauge", "Requests waiting for the engine.",
     [](const wire::EngineStats& s) { return double(s.waiting); }},
    {"vllm:kv_cache_usage_perc", "gauge", "KV blocks in use; 1 is all.",
     [](const wire::EngineStats& s) { return double(s.kv_usage); }},
    {"vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.",
     [](const wire::EngineStats& s) { return double(s.prefix_query_tokens); }},
    {"vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.",
     [](const wire::EngineStats& s) { return double(s.prefix_hit_tokens); }},
    {"vllm:external_prefix_cache_queries_total", "counter",
     "Prompt tokens that the prefix cache did not have, looked up in the offloaded blocks.",
     [](const wire::EngineStats& s) { return double(s.store_query_tokens); }},
    {"vllm:external_prefix_cache_hits_total", "counter",
     "Prompt tokens whose KV came back from there.",
     [](const wire::EngineStats& s) { return double(s.store_hit_tokens); }},
    {"trireme:kv_offload_bytes", "gauge", "Offloaded KV, in all workers of the engine.",
     [](const wire::EngineStats& s) { return double(s.store_bytes); }},
    {"trireme:kv_offload_lost_blocks_total", "counter",
     "Offloaded blocks that could not be written or read: computed again where needed.",
     [](const wire::EngineStats& s) { return double(s.store_lost_blocks); }},
    {"vllm:num_preemptions_total", "counter", "Requests preempted.",
     [](const wire::EngineStats& s) { return double(s.preemptions); }},
    {"vllm:corrupted_requests_total", "counter",
     "Requests that failed because the model's output for them was not a number.",
     [](const wire::EngineStats& s) { return double(s.corrupted_requests); }},
    {"vllm:spec_decode_num_drafts_total", "counter",
     "Drafts: what was guessed for a sequence in a step.",
     [](const wire::EngineStats& s) { return double(s.drafts); }},
    {"vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens guessed.",
     [](const wire::EngineStats& s) { return double(s.draft_tokens); }},
    {"vllm:spec_decode_num_accepted_tokens_total", "counter", "Of those, right.",
     [](const wire::EngineStats& s) { return double(s.accepted_draft_tokens); }},
    {"trireme:expert_rows_total", "counter",
     "Rows that went through experts of the engine's workers; with --enable-eplb.",
     [](const wire::EngineStats& s) { return double(s.expert_rows); }},
    {"trireme:expert_moves_total", "counter",
     "Experts that came to a worker of the engine, over all layers; with --enable-eplb.",
     [](const wire::EngineStats& s) { return double(s.expert_moves); }},
    {"trireme:expert_load_balancedness", "gauge",
     "Rows of the mean worker over those of the busiest one; 0: not known; with --enable-eplb.",
     [](const wire::EngineStats& s) { return double(s.expert_balancedness); }},
    {"trireme:engine_steps_total", "counter", "Steps of the engine in this life.",
     [](const wire::EngineStats& s) { return double(s.step.value); }},
    {"trireme:engine_wave", "gauge", "The wave that the engine is in, counted by its coordinator.",
     [](const wire::EngineStats& s) { return double(wave_number(s.wave)); }},
    {"trireme:prefill_tokens_waiting", "gauge", "Prompt tokens queued and not yet computed.",
     [](const wire::EngineStats& s) { return double(s.prefill_tokens_waiting); }},
};

struct ShmRow {
  std::string_view name;
  std::string_view type;
  std::string_view help;
  uint64_t wire::ShmQueueStats::*value;
};
constexpr ShmRow kShmRows[] = {
    {"trireme:shm_queue_messages_total", "counter", "Messages that went through the queue.",
     &wire::ShmQueueStats::messages},
    {"trireme:shm_queue_bytes_total", "counter", "Their bytes.", &wire::ShmQueueStats::bytes},
    {"trireme:shm_queue_oversize_messages_total", "counter",
     "Messages larger than a slot: they went in several chunks.",
     &wire::ShmQueueStats::oversize_messages},
    {"trireme:shm_queue_writer_waits_total", "counter",
     "Times a writer found the queue full and waited.", &wire::ShmQueueStats::writer_waits},
    {"trireme:shm_queue_writer_parks_total", "counter",
     "Times a writer slept until there was room.", &wire::ShmQueueStats::writer_parks},
    {"trireme:shm_queue_reader_parks_total", "counter",
     "Times a reader slept until a message came; it spins before that.",
     &wire::ShmQueueStats::reader_parks},
    {"trireme:shm_queue_chunks_waiting", "gauge", "Chunks that the slowest reader has yet to take.",
     &wire::ShmQueueStats::chunks_waiting},
    {"trireme:shm_queue_chunks_max", "gauge", "Chunks that the queue holds; then its writer waits.",
     &wire::ShmQueueStats::chunks_max},
};

std::string engine_label(std::size_t rank) { return absl::StrFormat(",engine=\"%u\"", rank); }

// Nothing of ours defers a request that would have room.
void append_waiting(Page& page, std::span<const FrontEndCounters::EngineRow> engines,
                    std::size_t first) {
  page.head("vllm:num_requests_waiting_by_reason", "gauge", "Requests waiting for the engine.");
  for (std::size_t rank = first; rank < engines.size(); ++rank) {
    page.line("vllm:num_requests_waiting_by_reason", engine_label(rank) + ",reason=\"capacity\"",
              double(engines[rank].stats.waiting));
    page.line("vllm:num_requests_waiting_by_reason", engine_label(rank) + ",reason=\"deferred\"",
              0);
  }
}

// The positions that some draft was right at, and the first.
void append_accepted(Page& page, std::span<const FrontEndCounters::EngineRow> engines,
                     std::size_t first) {
  page.head("vllm:spec_decode_num_accepted_tokens_per_pos_total", "counter",
            "Tokens guessed right, by their place in the draft.");
  for (std::size_t rank = first; rank < engines.size(); ++rank) {
    const auto& accepted = engines[rank].stats.accepted_at_position;
    for (std::size_t position = 0; position < accepted.size(); ++position) {
      if (position > 0 && accepted[position] == 0) break;
      page.line("vllm:spec_decode_num_accepted_tokens_per_pos_total",
                engine_label(rank) + absl::StrFormat(",position=\"%u\"", position),
                double(accepted[position]));
    }
  }
}

void append_shm_queues(Page& page, std::span<const FrontEndCounters::EngineRow> engines,
                       std::size_t first) {
  for (const ShmRow& row : kShmRows) {
    page.head(row.name, row.type, row.help);
    for (std::size_t rank = first; rank < engines.size(); ++rank) {
      const wire::ShmStats& shm = engines[rank].shm;
      page.line(row.name, engine_label(rank) + ",queue=\"steps\"", double(shm.steps.*row.value));
      page.line(row.name, engine_label(rank) + ",queue=\"results\"",
                double(shm.results.*row.value));
    }
  }
}

void append_cache_config(Page& page, const MetricsSources& sources) {
  page.head("vllm:cache_config_info", "gauge", "1; the labels say how the KV cache is made.");
  const auto& engines = sources.engines.engines();
  const uint32_t first = sources.engines.first_rank();
  for (std::size_t rank = first; rank < engines.size(); ++rank) {
    const wire::EngineReady& ready = engines[rank].ready;
    if (ready.block_count == 0) continue;
    page.line("vllm:cache_config_info",
              absl::StrFormat("%s,block_size=\"%u\",num_gpu_blocks=\"%u\"%s", engine_label(rank),
                              ready.block_tokens, ready.block_count, sources.cache_labels),
              1);
  }
}

void append_engines(Page& page, const MetricsSources& sources) {
  const EngineClient& client = sources.engines;
  const auto& entries = client.balancer().entries();
  const auto& engines = sources.counters.engines;
  const uint32_t first = client.first_rank();
  for (const EngineRow& row : kEngineRows) {
    page.head(row.name, row.type, row.help);
    for (std::size_t rank = first; rank < engines.size(); ++rank) {
      page.line(row.name, engine_label(rank), row.value(engines[rank].stats));
    }
  }
  append_waiting(page, engines, first);
  append_accepted(page, engines, first);
  append_shm_queues(page, engines, first);
  append_cache_config(page, sources);
  page.head("trireme:engine_up", "gauge", "1: ready to take requests from this front end.");
  for (std::size_t rank = first; rank < client.engines().size(); ++rank) {
    const bool is_up = client.engines()[rank].state == EngineClient::EngineState::kReady;
    page.line("trireme:engine_up", engine_label(rank), is_up ? 1 : 0);
  }
  page.head("trireme:requests_routed_total", "counter", "Requests sent to the engine.");
  for (std::size_t rank = first; rank < engines.size(); ++rank) {
    page.line("trireme:requests_routed_total", engine_label(rank), double(engines[rank].routed));
  }
  page.head("trireme:engine_losses_total", "counter", "Lives of the engine that ended.");
  for (std::size_t rank = first; rank < engines.size(); ++rank) {
    page.line("trireme:engine_losses_total", engine_label(rank), double(engines[rank].lost));
  }
  page.head("trireme:engine_score", "gauge",
            "4 * (waiting + unseen) + running; the lowest is next.");
  for (uint32_t rank = first; rank < entries.size(); ++rank) {
    page.line("trireme:engine_score", engine_label(rank), double(client.balancer().score(rank)));
  }
}

void append_requests(Page& page, const Metrics& metrics) {
  page.head("vllm:request_success_total", "counter", "Finished requests by reason.");
  constexpr std::string_view kReasons[] = {"none", "stop", "length", "abort", "error"};
  for (std::size_t i = 1; i < metrics.finished.size(); ++i) {
    page.line("vllm:request_success_total", absl::StrFormat(",finished_reason=\"%s\"", kReasons[i]),
              double(metrics.finished[i]));
  }
  page.head("vllm:prompt_tokens_by_source_total", "counter",
            "Prompt tokens by where they came from.");
  const uint64_t cached = std::min(metrics.prompt_tokens_cached_total, metrics.prompt_tokens_total);
  page.line("vllm:prompt_tokens_by_source_total", ",source=\"local_compute\"",
            double(metrics.prompt_tokens_total - cached));
  page.line("vllm:prompt_tokens_by_source_total", ",source=\"local_cache_hit\"", double(cached));
  page.line("vllm:prompt_tokens_by_source_total", ",source=\"external_kv_transfer\"", 0);
  page.single("vllm:prompt_tokens_total", "counter", "Prompt tokens.", metrics.prompt_tokens_total);
  page.single("vllm:generation_tokens_total", "counter", "Tokens generated.",
              metrics.generation_tokens_total);
  page.single("vllm:prompt_tokens_cached_total", "counter", "Prompt tokens not computed again.",
              metrics.prompt_tokens_cached_total);
  page.histogram("vllm:time_to_first_token_seconds", "Time to first token.", metrics.ttft_seconds);
  page.histogram("vllm:inter_token_latency_seconds", "Time between tokens.", metrics.itl_seconds);
  page.histogram("vllm:request_time_per_output_token_seconds", "Mean time per output token.",
                 metrics.time_per_output_token_seconds);
  page.histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.",
                 metrics.e2e_seconds);
  page.histogram("vllm:request_queue_time_seconds", "In the engine, before the first step.",
                 metrics.queue_seconds);
  page.histogram("vllm:request_prefill_time_seconds", "From the first step to the first token.",
                 metrics.prefill_seconds);
  page.histogram("vllm:request_decode_time_seconds", "From the first token to the last.",
                 metrics.decode_seconds);
  page.histogram("vllm:request_inference_time_seconds", "Prefill and decode.",
                 metrics.inference_seconds);
  page.histogram("vllm:request_prefill_kv_computed_tokens",
                 "Prompt tokens of a request that no cache had.", metrics.prefill_computed_tokens);
  page.histogram("vllm:request_max_num_generation_tokens",
                 "Tokens of the longest of a request's choices.", metrics.generation_tokens_max);
  page.histogram("vllm:request_num_preemptions", "Preemptions of a request.", metrics.preemptions);
  page.histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.",
                 metrics.prompt_tokens);
  page.histogram("vllm:request_generation_tokens", "Tokens generated for a request.",
                 metrics.generation_tokens);
  page.histogram("vllm:request_params_n", "n of a request.", metrics.params_n);
  page.histogram("vllm:request_params_max_tokens", "max_tokens of a request.",
                 metrics.params_tokens_max);
}

void append_front_end(Page& page, const MetricsSources& sources) {
  const EngineClient& engines = sources.engines;
  const FrontEndCounters& counters = sources.counters;
  page.histogram("vllm:iteration_tokens_total",
                 "Prompt tokens that were done and tokens made, of a step of an engine.",
                 counters.engine_client.step_tokens);
  page.head("vllm:admission_rejections_total", "counter", "Requests refused with 429.");
  page.line("vllm:admission_rejections_total", ",reason=\"max_num_queued_reqs\"",
            double(counters.refused_by_requests));
  page.line("vllm:admission_rejections_total", ",reason=\"max_num_queued_tokens\"",
            double(counters.refused_by_tokens));
  page.single("trireme:requests_open", "gauge", "In the front ends' journals.",
              counters.requests_open);
  page.single("trireme:requests_open_max", "gauge", "The admission bound.",
              counters.requests_open_max);
  page.single("trireme:view_epoch", "gauge", "Of the view in use.", engines.epoch().value);
  page.single("trireme:wave", "gauge", "The latest wave heard of.", engines.wave().value);
  page.single("trireme:engines_ready", "gauge", "Engines that take requests.",
              uint64_t{engines.ready_count()});
  page.single("trireme:draining", "gauge", "1: shutting down.",
              uint64_t{sources.is_draining ? 1U : 0U});
  page.single("trireme:requests_aborted_total", "counter", "Aborts sent to engines.",
              counters.engine_client.aborted);
  page.single("trireme:engine_queue_full_total", "counter", "Sends that an engine's queue refused.",
              counters.engine_client.engine_full);
  page.single("trireme:engine_messages_undecodable_total", "counter", "Dropped: not one of ours.",
              counters.engine_client.undecodable);
  page.single("trireme:engine_messages_stale_total", "counter", "Dropped: of a life that is over.",
              counters.engine_client.stale);
  page.single("trireme:engine_handshakes_failed_total", "counter",
              "Peers of the engines' port dropped before they could speak.",
              counters.handshakes_failed);
  const wire::CoordinatorStats& coordinator = engines.coordinator_stats();
  page.single("trireme:coordinator_handshakes_failed_total", "counter",
              "Peers of the coordinator's port dropped before they could speak.",
              coordinator.handshakes_failed);
  page.single("trireme:coordinator_messages_undecodable_total", "counter",
              "Dropped by the coordinator: not one of ours.", coordinator.undecodable);
  page.single("trireme:coordinator_messages_not_in_view_total", "counter",
              "Dropped by the coordinator: from nobody in the view.", coordinator.not_in_view);
  page.head("trireme:http_replies_total", "counter", "Replies by status.");
  for (std::size_t status = 0; status < counters.metrics.replies.size(); ++status) {
    if (counters.metrics.replies[status] == 0) continue;
    page.line("trireme:http_replies_total", absl::StrFormat(",status=\"%u\"", status),
              double(counters.metrics.replies[status]));
  }
  const HttpCounters& http = counters.http;
  page.single("trireme:http_connections_open", "gauge", "Open connections.", http.connections_open);
  page.single("trireme:http_connections_total", "counter", "Connections accepted.",
              http.connections_total);
  page.single("trireme:http_connections_refused_total", "counter", "Over the bound: 503.",
              http.connections_refused);
  page.single("trireme:http_requests_total", "counter", "Complete requests.", http.requests_total);
  page.single("trireme:http_requests_malformed_total", "counter", "400, 413, 431 of the parser.",
              http.requests_malformed);
  page.single("trireme:http_requests_timed_out_total", "counter", "408: too slow.",
              http.requests_timed_out);
  page.single("trireme:http_disconnects_total", "counter", "Clients gone before their answer.",
              http.disconnects);
}

}  // namespace

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[static_cast<std::size_t>(bucket)];
  sum_ += value;
}

void Histogram::append(std::string& out, std::string_view name, std::string_view labels) const {
  append(out, name, labels, bounds_, counts_, sum_);
}

void Histogram::append(std::string& out, std::string_view name, std::string_view labels,
                       std::span<const double> bounds, std::span<const uint64_t> counts,
                       double sum) {
  uint64_t total = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    total += counts[i];
    out += absl::StrFormat("%s_bucket{%s,le=\"%g\"} %u\n", name, labels, bounds[i], total);
  }
  total += counts.back();
  out += absl::StrFormat("%s_bucket{%s,le=\"+Inf\"} %u\n%s_sum{%s} %.17g\n%s_count{%s} %u\n", name,
                         labels, total, name, labels, sum, name, labels, total);
}

Metrics::Metrics()
    : ttft_seconds(kTtft),
      itl_seconds(kItl),
      e2e_seconds(kLatency),
      queue_seconds(kLatency),
      prompt_tokens(kTokens),
      generation_tokens(kTokens),
      params_n(kChoices),
      params_tokens_max(kTokens),
      time_per_output_token_seconds(kItl),
      prefill_seconds(kLatency),
      decode_seconds(kLatency),
      inference_seconds(kLatency),
      prefill_computed_tokens(kTokens),
      generation_tokens_max(kTokens),
      preemptions(kPreemptions) {}

std::string render_metrics(const MetricsSources& sources) {
  Page page(sources.model);
  append_engines(page, sources);
  append_requests(page, sources.counters.metrics);
  append_front_end(page, sources);
  return page.take();
}

}  // namespace trireme::api
