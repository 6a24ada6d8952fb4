// The table itself: data, in the order of --help.
#include <algorithm>

#include "common/options/flag_value.h"
#include "common/options/pooler.h"
#include "common/options/serve_flags.h"
#include "common/options/speculation.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

// STORE(parallel.tensor_parallel_size): reads the value into that field.
#define STORE(field) \
  [](ServeOptions& o, std::string_view text) -> Status { return flag_value::read(text, o.field); }

Status store_executor(ServeOptions& o, std::string_view text) {
  Executor& executor = o.parallel.executor;
  if (text == "uni") return executor = Executor::kUni, absl::OkStatus();
  if (text == "mp") return executor = Executor::kMp, absl::OkStatus();
  if (text == "sim") return executor = Executor::kSim, absl::OkStatus();
  if (text == "external_launcher") return executor = Executor::kExternalLauncher, absl::OkStatus();
  if (text == "ray")
    return error(kBad, "'ray' is not supported: use mp, uni, external_launcher or sim");
  return error(kBad, "'%s' is not one of mp, uni, external_launcher, sim", text);
}

Status store_policy(ServeOptions& o, std::string_view text) {
  if (text != "fcfs" && text != "priority")
    return error(kBad, "'%s' is not fcfs or priority", text);
  o.scheduler.policy = text == "fcfs" ? SchedulingPolicy::kFcfs : SchedulingPolicy::kPriority;
  return absl::OkStatus();
}

Status store_speculation(ServeOptions& o, std::string_view text) {
  return read_speculation(text, o.scheduler.speculation);
}

Status store_runner(ServeOptions& o, std::string_view text) {
  return read_runner(text, o.model.runner);
}

Status store_convert(ServeOptions& o, std::string_view text) {
  return read_convert(text, o.model.runner);
}

// vLLM's older flag for both.
Status store_task(ServeOptions& o, std::string_view text) {
  if (text == "auto" || text == "generate") return read_runner(text, o.model.runner);
  if (text == "embed" || text == "embedding") return read_convert("embed", o.model.runner);
  return error(kBad, "'%s' is not one of auto, generate, embed", text);
}

Status store_pooler(ServeOptions& o, std::string_view text) {
  return read_pooler(text, o.model.pooler);
}

Status store_spec_method(ServeOptions& o, std::string_view text) {
  return flag_value::read(text, o.scheduler.speculation.method);
}

Status store_spec_tokens(ServeOptions& o, std::string_view text) {
  return flag_value::read(text, o.scheduler.speculation.tokens_max);
}

Status choose_balancing(ServeOptions& o, LoadBalancing wanted) {
  LoadBalancing& field = o.parallel.load_balancing;
  if (field != LoadBalancing::kInternal && field != wanted) {
    return error(StatusCode::kInvalidArgument,
                 "--data-parallel-hybrid-lb excludes --data-parallel-external-lb and "
                 "--data-parallel-rank; give one");
  }
  field = wanted;
  return absl::OkStatus();
}

Status store_hybrid(ServeOptions& o, std::string_view text) {
  return text == "true" ? choose_balancing(o, LoadBalancing::kHybrid) : absl::OkStatus();
}

Status store_external(ServeOptions& o, std::string_view text) {
  return text == "true" ? choose_balancing(o, LoadBalancing::kExternal) : absl::OkStatus();
}

Status store_external_rank(ServeOptions& o, std::string_view text) {
  TRIREME_RETURN_IF_ERROR(choose_balancing(o, LoadBalancing::kExternal));
  return flag_value::read(text, o.parallel.data_parallel_rank);
}

Status store_dtype(ServeOptions& o, std::string_view text) {
  constexpr std::string_view kNames[] = {"auto", "bfloat16", "float16", "float32"};
  if (text == "half") text = "float16";
  if (text == "float") text = "float32";
  if (std::find(std::begin(kNames), std::end(kNames), text) == std::end(kNames)) {
    return error(kBad, "'%s' is not one of auto, bfloat16, float16, float32", text);
  }
  o.model.dtype = text;
  return absl::OkStatus();
}

Status store_kv_cache_dtype(ServeOptions& o, std::string_view text) {
  if (text.starts_with("fp8") || text.starts_with("nvfp4")) {
    return error(kBad, "'%s' is not supported: CPUs do not compute in it; int8 is as small", text);
  }
  if (text != "auto" && text != "bfloat16" && text != "int8") {
    return error(kBad, "'%s' is not one of auto, bfloat16, int8", text);
  }
  o.worker.kv_cache_dtype = text;
  return absl::OkStatus();
}

Status store_quantization(ServeOptions& o, std::string_view text) {
  constexpr std::string_view kNames[] = {"fp8",  "gptq", "awq", "compressed-tensors",
                                         "int8", "int4"};
  if (std::find(std::begin(kNames), std::end(kNames), text) == std::end(kNames)) {
    return error(kBad, "'%s' is not one of fp8, gptq, awq, compressed-tensors, int8, int4", text);
  }
  o.model.quantization = text;
  return absl::OkStatus();
}

Status store_device(ServeOptions&, std::string_view text) {
  if (text == "auto" || text == "cpu") return absl::OkStatus();
  return error(kBad, "'%s' is not supported: workers compute on the CPU (auto or cpu)", text);
}

Status store_model_tokens_max(ServeOptions& o, std::string_view text) {
  if (text == "auto" || text == "-1") return o.model.model_tokens_max = 0, absl::OkStatus();
  return flag_value::read(text, o.model.model_tokens_max);
}

Status store_load_format(ServeOptions&, std::string_view text) {
  if (text == "auto" || text == "safetensors") return absl::OkStatus();
  return error(kBad, "'%s' is not supported: only safetensors are read", text);
}

Status store_data_parallel_backend(ServeOptions&, std::string_view text) {
  if (text == "mp") return absl::OkStatus();
  return error(kBad, "'%s' is not supported: ranks are processes (mp)", text);
}

Status store_engine_rank(ServeOptions& o, std::string_view text) {
  o.internal.is_engine_rank = true;
  return flag_value::read(text, o.internal.engine_rank);
}

Status store_api_server_index(ServeOptions& o, std::string_view text) {
  o.internal.is_api_server = true;
  return flag_value::read(text, o.internal.api_server_index);
}

constexpr auto kWorks = FlagEffect::kWorks;
constexpr auto kNone = FlagEffect::kNoEffect;
constexpr auto kRefused = FlagEffect::kRefused;
constexpr auto kInternal = FlagEffect::kInternal;

constexpr std::string_view kModel = "Model";
constexpr std::string_view kParallel = "Parallelism and cluster";
constexpr std::string_view kScheduler = "Scheduler and KV cache";
constexpr std::string_view kServer = "HTTP server";
constexpr std::string_view kDevice = "Device";

// One row per line.
// clang-format off
const FlagRow kRows[] = {
    {"model", "", kModel, "MODEL", "directory with config.json and *.safetensors, or a hub id; also positional", kWorks, STORE(model.model)},
    {"served-model-name", "", kModel, "NAME...", "names in the API, the first one answers; default: MODEL as given", kWorks, STORE(model.served_model_names)},
    {"tokenizer", "", kModel, "DIR", "directory with tokenizer.json; default: the model's", kWorks, STORE(model.tokenizer)},
    {"dtype", "", kModel, "TYPE", "auto, bfloat16, float16, float32; auto: the checkpoint's", kWorks, store_dtype},
    {"quantization", "-q", kModel, "KIND", "int8, int4: quantise wider weights on load; fp8, gptq, awq, compressed-tensors: say what the checkpoint is", kWorks, store_quantization},
    {"max-model-len", "", kModel, "N", "longest prompt and output together; default: the model's", kWorks, store_model_tokens_max},
    {"seed", "", kModel, "N", "base of the seeds of requests that bring none; default: another at each start", kWorks, STORE(model.seed)},
    {"revision", "", kModel, "REV", "branch, tag or commit of a hub id", kWorks, STORE(model.revision)},
    {"download-dir", "", kModel, "DIR", "where hub models are kept; default: the hub cache", kWorks, STORE(model.download_dir)},
    {"generation-config", "", kModel, "auto|vllm|DIR", "where default sampling values come from: the model, nowhere, DIR/generation_config.json", kWorks, STORE(model.generation_config)},
    {"runner", "", kModel, "KIND", "auto, generate, pooling (embeddings); auto: pooling where the directory has a modules.json", kWorks, store_runner},
    {"convert", "", kModel, "KIND", "auto, none, embed (as --runner pooling)", kWorks, store_convert},
    {"pooler-config", "", kModel, "JSON", "of embeddings: pooling_type CLS, MEAN or LAST, normalize true or false; default: as the directory says", kWorks, store_pooler},
    {"override-pooler-config", "", kModel, "JSON", "the same", kWorks, store_pooler},
    {"task", "", kModel, "KIND", "auto, generate, embed: the older spelling of --runner and --convert", kWorks, store_task},
    {"load-format", "", kModel, "FORMAT", "auto or safetensors", kWorks, store_load_format},

    {"data-parallel-size", "-dp", kParallel, "N", "engines in the whole cluster", kWorks, STORE(parallel.data_parallel_size)},
    {"data-parallel-size-local", "-dpl", kParallel, "N", "engines on this node; 0: none; default: all", kWorks, STORE(parallel.data_parallel_size_local)},
    {"data-parallel-start-rank", "-dpr", kParallel, "N", "rank of this node's first engine", kWorks, STORE(parallel.data_parallel_start_rank)},
    {"data-parallel-rank", "-dpn", kParallel, "N", "this one rank only, balanced from outside", kWorks, store_external_rank},
    {"data-parallel-address", "-dpa", kParallel, "HOST", "address of the front node (coordinator)", kWorks, STORE(parallel.data_parallel_address)},
    {"data-parallel-rpc-port", "-dpp", kParallel, "PORT", "the one fixed port of the cluster; default 29550, on a single node any free one", kWorks, STORE(parallel.data_parallel_rpc_port)},
    {"data-parallel-backend", "-dpb", kParallel, "mp", "how ranks are started", kWorks, store_data_parallel_backend},
    {"data-parallel-hybrid-lb", "-dph", kParallel, "", "this node's api-server serves this node's ranks only", kWorks, store_hybrid},
    {"data-parallel-external-lb", "-dpe", kParallel, "", "one server per rank, balanced from outside", kWorks, store_external},
    {"tensor-parallel-size", "-tp", kParallel, "N", "workers that share each layer", kWorks, STORE(parallel.tensor_parallel_size)},
    {"pipeline-parallel-size", "-pp", kParallel, "N", "groups of workers that share the layers", kWorks, STORE(parallel.pipeline_parallel_size)},
    {"headless", "", kParallel, "", "engines only on this node, no HTTP: the node agent, engine-core", kWorks, STORE(parallel.headless)},
    {"distributed-executor-backend", "", kParallel, "KIND", "mp (default), uni, external_launcher, sim", kWorks, store_executor},
    {"nnodes", "-n", kParallel, "N", "nodes that one engine's workers are spread over", kWorks, STORE(parallel.node_count)},
    {"node-rank", "-r", kParallel, "N", "this node among --nnodes", kWorks, STORE(parallel.node_rank)},
    {"master-addr", "", kParallel, "HOST", "node 0 of --nnodes", kWorks, STORE(parallel.master_address)},
    {"master-port", "", kParallel, "PORT", "its port", kWorks, STORE(parallel.master_port)},
    {"api-server-count", "-asc", kParallel, "N", "HTTP processes on this node; default 1; not with --headless", kWorks, STORE(server.api_server_count)},
    {"cluster-key-file", "", kParallel, "FILE", "cluster key; default: TRIREME_CLUSTER_KEY, ~/.config/trireme/cluster.key, /etc/trireme/cluster.key", kWorks, STORE(cluster.key_file)},
    {"insecure-cluster", "", kParallel, "", "beyond loopback without a cluster key", kWorks, STORE(cluster.insecure)},
    {"lease-ms", "", kParallel, "MS", "silence after which a process counts as lost", kWorks, STORE(cluster.lease_milliseconds)},

    {"max-num-seqs", "", kScheduler, "N", "sequences that run at once in an engine", kWorks, STORE(scheduler.sequences_max)},
    {"max-num-batched-tokens", "", kScheduler, "N", "tokens computed in one step", kWorks, STORE(scheduler.batched_tokens_max)},
    {"enable-chunked-prefill", "", kScheduler, "", "cut long prompts over several steps (default on)", kWorks, STORE(scheduler.chunked_prefill)},
    {"enable-prefix-caching", "", kScheduler, "", "share KV of equal prefixes (default on)", kWorks, STORE(scheduler.prefix_caching)},
    {"max-num-partial-prefills", "", kScheduler, "N", "prompts that are part-way at once; default 0: as many as fit", kWorks, STORE(scheduler.partial_prefills_max)},
    {"max-long-partial-prefills", "", kScheduler, "N", "of those, long ones; shorter prompts pass the next; default 1; 0: as many as fit", kWorks, STORE(scheduler.long_partial_prefills_max)},
    {"long-prefill-token-threshold", "", kScheduler, "N", "a longer prompt is long and takes no more of one step; default 0: longer than --max-num-batched-tokens", kWorks, STORE(scheduler.long_prefill_tokens)},
    {"scheduling-policy", "", kScheduler, "POLICY", "fcfs or priority", kWorks, store_policy},
    {"priority-ageing-seconds", "", kScheduler, "S", "with policy priority: a request that has waited so long counts as one level more urgent; default 60; 0: never", kWorks, STORE(scheduler.priority_ageing_seconds)},
    {"speculative-config", "-sc", kScheduler, "JSON", "guess tokens by prompt lookup; they cost less when right and change none: {\"method\": \"ngram\", \"num_speculative_tokens\": N, \"prompt_lookup_min\": N, \"prompt_lookup_max\": N}", kWorks, store_speculation},
    {"spec-method", "", kScheduler, "ngram", "its method, alone", kWorks, store_spec_method},
    {"spec-tokens", "", kScheduler, "N", "its num_speculative_tokens, alone", kWorks, store_spec_tokens},
    {"block-size", "", kScheduler, "N", "tokens in a KV block: 16 (default), 32, 64, 128 or 256", kWorks, STORE(scheduler.block_tokens)},
    {"kv-cache-dtype", "", kScheduler, "TYPE", "auto, bfloat16, int8 (half the memory, a scale for each token and head); auto: the model's", kWorks, store_kv_cache_dtype},
    {"num-gpu-blocks-override", "", kScheduler, "N", "KV blocks per engine; default: as many as fit and --max-num-seqs sequences can fill", kWorks, STORE(scheduler.block_count)},
    {"kv-cache-memory-bytes", "", kScheduler, "BYTES", "KV memory per worker, instead of a share", kWorks, STORE(scheduler.kv_bytes)},
    {"gpu-memory-utilization", "", kScheduler, "SHARE", "KV memory of this node's workers, as a share of what the loaded weights left free; default: 0.9, but at most 4 GiB a worker", kWorks, STORE(scheduler.memory_utilization)},

    {"device", "", kDevice, "KIND", "auto or cpu: workers compute on the CPU", kWorks, store_device},
    {"cpu-threads-bind", "", kDevice, "auto|nobind|LIST", "cores per worker: \"0-3|4-7\"; auto divides the node's", kWorks, STORE(worker.cpu_threads_bind)},
    {"distributed-timeout-seconds", "", kDevice, "S", "a worker that holds up a step and neither progresses nor computes for so long is killed on its node, and its rank restarted (not one that mpirun, srun or torchrun started: the job ends); default 60", kWorks, STORE(worker.timeout_seconds)},
    {"sim-profile", "", kDevice, "PROFILE", "step times of the sim executor: base_us=200,prefill_us=5,decode_us=20", kWorks, STORE(worker.sim_profile)},

    {"host", "", kServer, "HOST", "address to listen on; default: all", kWorks, STORE(server.host)},
    {"port", "", kServer, "PORT", "port to listen on; default 8000", kWorks, STORE(server.port)},
    {"api-key", "", kServer, "KEY...", "bearer tokens that /v1 paths need, all others are open; also TRIREME_API_KEY, VLLM_API_KEY", kWorks, STORE(server.api_keys)},
    {"ssl-certfile", "", kServer, "FILE", "serve HTTPS with this certificate chain", kWorks, STORE(server.ssl_certfile)},
    {"ssl-keyfile", "", kServer, "FILE", "and this key; default: in the same file", kWorks, STORE(server.ssl_keyfile)},
    {"root-path", "", kServer, "PATH", "prefix that a proxy strips", kWorks, STORE(server.root_path)},
    {"chat-template", "", kServer, "FILE", "chat template file or text; default: the model's", kWorks, STORE(server.chat_template)},
    {"response-role", "", kServer, "ROLE", "role in chat replies", kWorks, STORE(server.response_role)},
    {"max-logprobs", "", kServer, "N", "most logprobs a request may ask for; -1: no limit", kWorks, STORE(server.logprobs_max)},
    {"max-num-queued-reqs", "", kServer, "N", "requests in the cluster before 429; each of several api-servers takes its share", kWorks, STORE(server.queued_requests_max)},
    {"max-num-queued-tokens", "", kServer, "N", "prompt tokens not yet computed before 429", kWorks, STORE(server.queued_tokens_max)},
    {"stream-interval", "", kServer, "N", "tokens in an event of a stream; default 1; more cost less; a request may ask for more", kWorks, STORE(server.stream_interval)},
    {"shutdown-timeout", "", kServer, "S", "how long running requests may finish after SIGTERM", kWorks, STORE(server.shutdown_timeout_seconds)},
    {"return-tokens-as-token-ids", "", kServer, "", "tokens of logprobs as token_id:N", kWorks, STORE(server.return_tokens_as_token_ids)},
    {"trust-request-chat-template", "", kServer, "", "accept a chat template inside a request", kWorks, STORE(server.trust_request_chat_template)},
    {"enable-force-include-usage", "", kServer, "", "usage in every stream", kWorks, STORE(server.usage_always)},
    {"enable-log-requests", "", kServer, "", "a log line per request", kWorks, STORE(server.log_requests)},
    {"disable-log-stats", "", kServer, "", "no load line every 10 s while there is load; /metrics stays", kWorks, [](ServeOptions& o, std::string_view text) -> Status { return o.server.log_stats = text != "true", absl::OkStatus(); }},
    {"aggregate-engine-logging", "", kServer, "", "one load line for all engines, not one each", kWorks, STORE(server.aggregate_log_stats)},

    {"trust-remote-code", "", "", "", "no code of a model is ever run", kNone},
    {"enable-expert-parallel", "-ep", "", "", "every rank keeps all experts, each split by --tensor-parallel-size", kNone},
    {"enforce-eager", "", "", "", "there is no compilation to turn off", kNone},
    {"disable-uvicorn-access-log", "", "", "", "there is no uvicorn; see --enable-log-requests", kNone},
    {"uvicorn-log-level", "", "", "LEVEL", "there is no uvicorn; see TRIREME_LOG_LEVEL", kNone},
    {"disable-log-requests", "", "", "", "requests are not logged by default", kNone},
    {"async-scheduling", "", "", "", "the next step is always prepared while the device works", kNone},
    {"disable-nccl-for-dp-synchronization", "", "", "", "step agreement never goes over NCCL", kNone},
    {"dp-sync-interval", "", "", "N", "steps agree on their end one by one", kNone},
    {"prefill-schedule-interval", "", "", "N", "prefill is bounded by --max-num-batched-tokens", kNone},
    {"cpu-distributed-timeout-seconds", "", "", "S", "waits have deadlines of their own; see --lease-ms", kNone},
    {"watchdog-config", "", "", "JSON", "the coordinator watches by leases; see --lease-ms", kNone},
    {"enable-fault-tolerance", "", "", "", "ranks are always restarted", kNone},
    {"fault-tolerance-config", "", "", "JSON", "ranks are always restarted", kNone},
    {"enable-shm-tensor-arena", "", "", "", "steps always go through shared memory", kNone},
    {"numa-bind", "", "", "", "see --cpu-threads-bind", kNone},
    {"swap-space", "", "", "GIB", "preempted sequences are computed again", kNone},
    {"disable-fastapi-docs", "", "", "", "there are no such pages", kNone},
    {"sse-keep-alive-interval", "", "", "S", "streams send tokens as they come", kNone},
    {"enable-prompt-tokens-details", "", "", "", "usage always carries cached prompt tokens", kNone},
    {"enable-request-id-headers", "", "", "", "X-Request-Id is always answered", kNone},
    {"enable-server-load-tracking", "", "", "", "/load always works", kNone},
    {"prefix-caching-hash-algo", "", "", "ALGO", "blocks are hashed by one built-in algorithm", kNone},
    {"kv-cache-metrics", "", "", "", "not exported yet", kNone},
    {"enable-mfu-metrics", "", "", "", "not exported yet", kNone},
    {"fingerprint-mode", "", "", "MODE", "not sent", kNone},
    {"enable-per-request-metrics", "", "", "", "not sent", kNone},
    {"limit-mm-per-prompt", "", "", "JSON", "text models only", kNone},
    {"allowed-origins", "", "", "JSON", "CORS headers are not sent", kNone},
    {"data-parallel-supervisor-port", "", "", "PORT", "there is no supervisor process", kNone},
    {"dp-supervisor-probe-interval-s", "", "", "S", "there is no supervisor process", kNone},
    {"dp-supervisor-probe-timeout-s", "", "", "S", "there is no supervisor process", kNone},
    {"dp-supervisor-probe-failure-threshold", "", "", "N", "there is no supervisor process", kNone},
    {"elastic-ep-max-dp-size", "", "", "N", "the number of ranks is fixed at start", kNone},
    {"optimization-level", "-O", "", "JSON", "nothing is compiled at start", kNone},
    {"compilation-config", "-cc", "", "JSON", "nothing is compiled at start", kNone},
    {"cuda-graph-sizes", "", "", "N...", "there are no CUDA graphs", kNone},
    {"cudagraph-capture-sizes", "", "", "N...", "there are no CUDA graphs", kNone},
    {"max-cudagraph-capture-size", "", "", "N", "there are no CUDA graphs", kNone},
    {"max-seq-len-to-capture", "", "", "N", "there are no CUDA graphs", kNone},
    {"cudagraph-metrics", "", "", "", "there are no CUDA graphs", kNone},
    {"performance-mode", "", "", "MODE", "there is one mode", kNone},
    {"attention-backend", "", "", "NAME", "there is one attention implementation", kNone},
    {"attention-config", "-ac", "", "JSON", "there is one attention implementation", kNone},
    {"disable-cascade-attn", "", "", "", "there is no cascade attention", kNone},
    {"kernel-config", "", "", "JSON", "there is one set of kernels", kNone},
    {"moe-backend", "", "", "NAME", "there is one set of kernels", kNone},
    {"linear-backend", "", "", "NAME", "there is one set of kernels", kNone},
    {"enable-flashinfer-autotune", "", "", "", "there is one set of kernels", kNone},
    {"all2all-backend", "", "", "NAME", "experts are split by --tensor-parallel-size, nothing is sent to them", kNone},
    {"enable-eplb", "", "", "", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"eplb-config", "", "", "JSON", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"num-redundant-experts", "", "", "N", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"eplb-window-size", "", "", "N", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"eplb-step-interval", "", "", "N", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"eplb-log-balancedness", "", "", "", "experts are split by --tensor-parallel-size, so their load is even", kNone},
    {"expert-placement-strategy", "", "", "NAME", "experts are split by --tensor-parallel-size", kNone},
    {"enable-ep-weight-filter", "", "", "", "workers read only their part of the weights anyway", kNone},
    {"enable-dbo", "", "", "", "batches are not cut in two", kNone},
    {"ubatch-size", "", "", "N", "batches are not cut in two", kNone},
    {"dbo-decode-token-threshold", "", "", "N", "batches are not cut in two", kNone},
    {"dbo-prefill-token-threshold", "", "", "N", "batches are not cut in two", kNone},
    {"disable-custom-all-reduce", "", "", "", "there is one all-reduce", kNone},
    {"dcp-comm-backend", "", "", "NAME", "there is one KV cache a worker", kNone},
    {"dcp-kv-cache-interleave-size", "", "", "N", "there is one KV cache a worker", kNone},
    {"cp-kv-cache-interleave-size", "", "", "N", "there is one KV cache a worker", kNone},
    {"max-parallel-loading-workers", "", "", "N", "weights are mapped, and workers share their pages", kNone},
    {"safetensors-load-strategy", "", "", "NAME", "weights are mapped", kNone},
    {"safetensors-prefetch-num-threads", "", "", "N", "weights are mapped", kNone},
    {"safetensors-prefetch-block-size", "", "", "N", "weights are mapped", kNone},
    {"ignore-patterns", "", "", "PATTERN...", "only *.safetensors, config.json and the tokenizer's files are read", kNone},
    {"use-tqdm-on-load", "", "", "", "there are no progress bars", kNone},
    {"pt-load-map-location", "", "", "PLACE", "only safetensors are read", kNone},
    {"code-revision", "", "", "REV", "no code of a model is ever run", kNone},
    {"intial-incremental-detokenization-offset", "", "", "N", "text is made token by token without one", kNone},
    {"tokenizer-pool-size", "", "", "N", "tokenizing has threads of its own", kNone},
    {"tokenizer-pool-type", "", "", "NAME", "tokenizing has threads of its own", kNone},
    {"tokenizer-pool-extra-config", "", "", "JSON", "tokenizing has threads of its own", kNone},
    {"renderer-num-workers", "", "", "N", "tokenizing has threads of its own", kNone},
    {"additional-config", "", "", "JSON", "it is for the plug-ins of other platforms", kNone},
    {"numa-bind-nodes", "", "", "N...", "see --cpu-threads-bind", kNone},
    {"numa-bind-cpus", "", "", "LIST...", "see --cpu-threads-bind", kNone},
    {"ray-workers-use-nsight", "", "", "", "there is no Ray", kNone},
    {"enable-layerwise-nvtx-tracing", "", "", "", "there is no profiler", kNone},
    {"profiler-config", "", "", "JSON", "there is no profiler", kNone},
    {"enable-logging-iteration-details", "", "", "", "see TRIREME_LOG_LEVEL and /metrics", kNone},
    {"show-hidden-metrics-for-version", "", "", "V", "no metric is hidden", kNone},
    {"kv-cache-metrics-sample", "", "", "SHARE", "not exported yet", kNone},
    {"log-config-file", "", "", "FILE", "there is no Python logging; see TRIREME_LOG_LEVEL and TRIREME_LOG_FORMAT", kNone},
    {"max-log-len", "", "", "N", "neither prompts nor outputs are logged", kNone},
    {"enable-log-outputs", "", "", "", "outputs are not logged", kNone},
    {"enable-log-deltas", "", "", "", "outputs are not logged", kNone},
    {"log-error-stack", "", "", "", "there is no Python stack", kNone},
    {"disable-access-log-for-endpoints", "", "", "PATHS", "there is no access log; see --enable-log-requests", kNone},
    {"h11-max-incomplete-event-size", "", "", "BYTES", "there is no h11: headers have a fixed bound", kNone},
    {"h11-max-header-count", "", "", "N", "there is no h11: headers have a fixed bound", kNone},
    {"disable-frontend-multiprocessing", "", "", "", "api-servers are always processes of their own; see --api-server-count", kNone},
    {"enable-offline-docs", "", "", "", "there are no such pages", kNone},
    {"allow-credentials", "", "", "", "CORS headers are not sent", kNone},
    {"allowed-methods", "", "", "JSON", "CORS headers are not sent", kNone},
    {"allowed-headers", "", "", "JSON", "CORS headers are not sent", kNone},
    {"fingerprint-value", "", "", "TEXT", "not sent", kNone},
    {"enable-flash-late-interaction", "", "", "", "text generation only", kNone},
    {"cohere-is-reasoning-model", "", "", "", "there are no Cohere paths", kNone},
    {"cohere-format", "", "", "NAME", "there are no Cohere paths", kNone},
    {"structured-outputs-config", "", "", "JSON", "requests with structured outputs are refused one by one", kNone},
    {"guided-decoding-backend", "", "", "NAME", "requests with structured outputs are refused one by one", kNone},
    {"guided-decoding-disable-fallback", "", "", "", "requests with structured outputs are refused one by one", kNone},
    {"guided-decoding-disable-any-whitespace", "", "", "", "requests with structured outputs are refused one by one", kNone},
    {"guided-decoding-disable-additional-properties", "", "", "", "requests with structured outputs are refused one by one", kNone},
    {"max-loras", "", "", "N", "adapters are not supported", kNone},
    {"max-lora-rank", "", "", "N", "adapters are not supported", kNone},
    {"max-cpu-loras", "", "", "N", "adapters are not supported", kNone},
    {"lora-dtype", "", "", "TYPE", "adapters are not supported", kNone},
    {"lora-extra-vocab-size", "", "", "N", "adapters are not supported", kNone},
    {"lora-target-modules", "", "", "NAME...", "adapters are not supported", kNone},
    {"fully-sharded-loras", "", "", "", "adapters are not supported", kNone},
    {"specialize-active-lora", "", "", "", "adapters are not supported", kNone},
    {"enable-tower-connector-lora", "", "", "", "adapters are not supported", kNone},
    {"enable-mixed-moe-lora-format", "", "", "", "adapters are not supported", kNone},
    {"allowed-local-media-path", "", "", "DIR", "text models only", kNone},
    {"allowed-media-domains", "", "", "HOST...", "text models only", kNone},
    {"media-io-kwargs", "", "", "JSON", "text models only", kNone},
    {"mm-processor-kwargs", "", "", "JSON", "text models only", kNone},
    {"mm-processor-cache-gb", "", "", "GIB", "text models only", kNone},
    {"mm-processor-cache-type", "", "", "NAME", "text models only", kNone},
    {"mm-shm-cache-max-object-size-mb", "", "", "MIB", "text models only", kNone},
    {"mm-encoder-tp-mode", "", "", "NAME", "text models only", kNone},
    {"mm-encoder-attn-backend", "", "", "NAME", "text models only", kNone},
    {"mm-encoder-attn-dtype", "", "", "TYPE", "text models only", kNone},
    {"mm-encoder-fp8-scale-path", "", "", "FILE", "text models only", kNone},
    {"mm-tensor-ipc", "", "", "NAME", "text models only", kNone},
    {"disable-mm-preprocessor-cache", "", "", "", "text models only", kNone},
    {"enable-multimodal-encoder-data-parallel", "", "", "", "text models only", kNone},
    {"disable-chunked-mm-input", "", "", "", "text models only", kNone},
    {"interleave-mm-strings", "", "", "", "text models only", kNone},
    {"skip-mm-profiling", "", "", "", "text models only", kNone},
    {"video-pruning-rate", "", "", "SHARE", "text models only", kNone},
    {"language-model-only", "", "", "", "text models only", kNone},
    {"max-num-encoder-input-tokens", "", "", "N", "text models only", kNone},
    {"disable-hybrid-kv-cache-manager", "", "", "", "there is one layout of the KV cache", kNone},
    {"num-lookahead-slots", "", "", "N", "blocks are taken when tokens come", kNone},
    {"scheduler-reserve-full-isl", "", "", "", "a request that does not fit is preempted and computed again", kNone},
    {"mamba-cache-dtype", "", "", "TYPE", "there are no Mamba models", kNone},
    {"mamba-ssm-cache-dtype", "", "", "TYPE", "there are no Mamba models", kNone},
    {"mamba-block-size", "", "", "N", "there are no Mamba models", kNone},
    {"mamba-cache-mode", "", "", "MODE", "there are no Mamba models", kNone},
    {"mamba-backend", "", "", "NAME", "there are no Mamba models", kNone},
    {"mamba-config", "", "", "JSON", "there are no Mamba models", kNone},
    {"enable-mamba-cache-stochastic-rounding", "", "", "", "there are no Mamba models", kNone},
    {"mamba-cache-philox-rounds", "", "", "N", "there are no Mamba models", kNone},
    {"gdn-prefill-backend", "", "", "NAME", "there are no Mamba models", kNone},
    {"calculate-kv-scales", "", "", "", "int8 KV has a scale for each token, made when the token comes", kNone},
    {"kv-cache-dtype-skip-layers", "", "", "LAYER...", "all layers keep KV in one type", kNone},
    {"offload-backend", "", "", "NAME", "weights stay in memory", kNone},
    {"offload-prefetch-step", "", "", "N", "weights stay in memory", kNone},
    {"offload-params", "", "", "NAME...", "weights stay in memory", kNone},
    {"cpu-offload-params", "", "", "NAME...", "weights stay in memory", kNone},
    {"preemption-mode", "", "", "MODE", "preempted sequences are computed again", kNone},
    {"num-scheduler-steps", "", "", "N", "the next step is always prepared while the device works", kNone},
    {"multi-step-stream-outputs", "", "", "", "every token is sent as it comes; see --stream-interval", kNone},
    {"scheduler-delay-factor", "", "", "X", "a request that fits never waits", kNone},
    {"use-v2-block-manager", "", "", "", "there is one block manager", kNone},
    {"disable-async-output-proc", "", "", "", "outputs always leave while the device works", kNone},
    {"fail-on-environ-validation", "", "", "", "variables of vLLM are not read, VLLM_API_KEY excepted", kNone},
    {"enable-reasoning", "", "", "", "reasoning is not split off; see --reasoning-parser", kNone},

    {"data-parallel-multi-port-external-lb", "", "", "", "start one server per rank with --data-parallel-rank", kRefused},
    {"enable-elastic-ep", "", "", "", "the number of ranks is fixed at start", kRefused},
    {"enable-lora", "", "", "", "adapters are not supported", kRefused},
    {"lora-modules", "", "", "NAME=DIR...", "adapters are not supported", kRefused},
    {"spec-model", "", "", "MODEL", "draft models are not supported; --speculative-config has the method ngram", kRefused},
    {"kv-transfer-config", "", "", "JSON", "KV is not moved between engines", kRefused},
    {"kv-events-config", "", "", "JSON", "KV events are not published", kRefused},
    {"kv-offloading-size", "", "", "GIB", "KV is not offloaded", kRefused},
    {"kv-offloading-backend", "", "", "KIND", "KV is not offloaded", kRefused},
    {"otlp-traces-endpoint", "", "", "URL", "traces are not sent", kRefused},
    {"collect-detailed-traces", "", "", "PARTS...", "traces are not sent", kRefused},
    {"custom-histogram-buckets", "", "", "JSON", "buckets are vLLM's defaults", kRefused},
    {"logprobs-mode", "", "", "MODE", "logprobs are of the raw distribution", kRefused, nullptr, "raw_logprobs"},
    {"grpc", "", "", "", "HTTP only", kRefused},
    {"grpc-port", "", "", "PORT", "HTTP only", kRefused},
    {"uds", "", "", "PATH", "listens on TCP only", kRefused},
    {"ssl-ca-certs", "", "", "FILE", "client certificates are not checked", kRefused},
    {"ssl-cert-reqs", "", "", "N", "client certificates are not checked", kRefused, nullptr, "0"},
    {"ssl-ciphers", "", "", "LIST", "OpenSSL's defaults are used", kRefused},
    {"enable-ssl-refresh", "", "", "", "restart api-servers to change certificates", kRefused},
    {"tokens-only", "", "", "", "not supported", kRefused},
    {"enable-scale-out", "", "", "", "not supported", kRefused},
    {"enable-auto-tool-choice", "", "", "", "tool calls are not parsed", kRefused},
    {"tool-call-parser", "", "", "NAME", "tool calls are not parsed", kRefused},
    {"reasoning-parser", "", "", "NAME", "reasoning is not split off", kRefused},
    {"device-ids", "", "", "LIST...", "set CUDA_VISIBLE_DEVICES, or --cpu-threads-bind for cores", kRefused},
    {"middleware", "", "", "NAME...", "there is no Python to load it into", kRefused},
    {"hf-overrides", "", "", "JSON", "edit the model's config.json", kRefused},
    {"tokenizer-mode", "", "", "MODE", "tokenizer.json is read", kRefused, nullptr, "auto;hf;slow"},
    {"skip-tokenizer-init", "", "", "", "the API needs the tokenizer", kRefused},
    {"hf-config-path", "", "", "DIR", "config.json is read from the model's directory", kRefused},
    {"hf-token", "", "", "TOKEN", "set HF_TOKEN, which no list of processes shows", kRefused},
    {"tokenizer-revision", "", "", "REV", "give the directory with --tokenizer", kRefused},
    {"io-processor-plugin", "", "", "NAME", "there is no Python to load it into", kRefused},
    {"model-impl", "", "", "NAME", "models are Trireme's own", kRefused, nullptr, "auto;vllm"},
    {"config-format", "", "", "NAME", "config.json is read", kRefused, nullptr, "auto;hf"},
    {"model-loader-extra-config", "", "", "JSON", "weights are mapped", kRefused, nullptr, "{}"},
    {"quantization-config", "", "", "JSON", "see --quantization and quantization_config of config.json", kRefused},
    {"allow-deprecated-quantization", "", "", "", "see --quantization and quantization_config of config.json", kRefused},
    {"override-attention-dtype", "", "", "TYPE", "attention computes in one type", kRefused},
    {"rope-scaling", "", "", "JSON", "edit the model's config.json", kRefused},
    {"rope-theta", "", "", "X", "edit the model's config.json", kRefused},
    {"disable-sliding-window", "", "", "", "windows are those of the model's config.json", kRefused},
    {"override-generation-config", "", "", "JSON", "give a directory with generation_config.json to --generation-config", kRefused},
    {"logits-processors", "", "", "NAME...", "there is no Python to load it into", kRefused},
    {"logits-processor-pattern", "", "", "PATTERN", "there is no Python to load it into", kRefused},
    {"enable-prompt-embeds", "", "", "", "prompts are text or token ids", kRefused},
    {"enable-mm-embeds", "", "", "", "text models only", kRefused},
    {"mm-encoder-only", "", "", "", "text models only", kRefused},
    {"default-mm-loras", "", "", "JSON", "adapters are not supported", kRefused},
    {"enable-lora-bias", "", "", "", "adapters are not supported", kRefused},
    {"enable-prompt-adapter", "", "", "", "adapters are not supported", kRefused},
    {"enable-sleep-mode", "", "", "", "memory is not given back while serving", kRefused},
    {"weight-transfer-config", "", "", "JSON", "weights do not change while serving", kRefused},
    {"ec-transfer-config", "", "", "JSON", "encoder outputs are not moved between engines", kRefused},
    {"kv-sharing-fast-prefill", "", "", "", "layers do not share KV", kRefused},
    {"prefix-match-unit", "", "", "N", "blocks are shared whole; see --block-size", kRefused},
    {"cpu-offload-gb", "", "", "GIB", "weights stay in memory", kRefused, nullptr, "0"},
    {"offload-group-size", "", "", "N", "weights stay in memory", kRefused, nullptr, "0"},
    {"offload-num-in-group", "", "", "N", "weights stay in memory", kRefused, nullptr, "1"},
    {"decode-context-parallel-size", "-dcp", "", "N", "see --tensor-parallel-size and --pipeline-parallel-size", kRefused, nullptr, "1"},
    {"prefill-context-parallel-size", "-pcp", "", "N", "see --tensor-parallel-size and --pipeline-parallel-size", kRefused, nullptr, "1"},
    {"worker-cls", "", "", "NAME", "there is no Python to load it into", kRefused, nullptr, "auto"},
    {"worker-extension-cls", "", "", "NAME", "there is no Python to load it into", kRefused},
    {"scheduler-cls", "", "", "NAME", "there is no Python to load it into", kRefused},
    {"chat-template-content-format", "", "", "FORMAT", "text parts are joined to a string", kRefused, nullptr, "auto;string"},
    {"default-chat-template-kwargs", "", "", "JSON", "give chat_template_kwargs in the request", kRefused},
    {"exclude-tools-when-tool-choice-none", "", "", "", "the template sees the tools of every request", kRefused},
    {"tool-parser-plugin", "", "", "FILE", "there is no Python to load it into", kRefused},
    {"tool-server", "", "", "HOSTS", "tools are the client's", kRefused},
    {"reasoning-parser-plugin", "", "", "FILE", "there is no Python to load it into", kRefused},
    {"reasoning-config", "", "", "JSON", "reasoning is not split off", kRefused},
    {"enable-tokenizer-info-endpoint", "", "", "", "/tokenizer_info is not served", kRefused},
    {"enable-return-routed-experts", "", "", "", "experts are not told", kRefused},
    {"speculative-model", "", "", "MODEL", "draft models are not supported; see --speculative-config", kRefused},
    {"num-speculative-tokens", "", "", "N", "see --speculative-config", kRefused},
    {"ngram-prompt-lookup-max", "", "", "N", "see --speculative-config", kRefused},
    {"ngram-prompt-lookup-min", "", "", "N", "see --speculative-config", kRefused},

    {"internal-api-server-index", "", "", "N", "this process is one api-server", kInternal, store_api_server_index},
    {"internal-engine-rank", "", "", "N", "this process is one engine rank", kInternal, store_engine_rank},
    {"internal-node-worker-index", "", "", "N", "number of this rank's worker on its node", kInternal, STORE(internal.node_worker_index)},
    {"internal-node-worker-count", "", "", "N", "workers on this node", kInternal, STORE(internal.node_worker_count)},
    {"internal-model-directory", "", "", "DIR", "what the parent resolved the model to", kInternal, STORE(internal.model_directory)},
    {"internal-launch", "", "", "ID", "the start of this node that the process belongs to", kInternal, STORE(internal.launch)},
    {"internal-death-fd", "", "", "FD", "end of file on it: the parent is gone", kInternal, STORE(internal.death_fd)},
    {"internal-counters-fd", "", "", "FD", "inherited counters of the node's api-servers", kInternal, STORE(internal.counters_fd)},
    {"internal-listen-fd", "", "", "FD", "inherited listening socket", kInternal, STORE(internal.listen_fd)},

};
// clang-format on

#undef STORE

}  // namespace

std::span<const FlagRow> serve_flags() { return kRows; }

}  // namespace trireme
