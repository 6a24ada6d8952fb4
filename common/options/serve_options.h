// ServeOptions: everything the command line of `trireme serve`, api-server, engine-core,
// coordinator and worker can say, under vLLM's flag names. Parsed once
// (common/options/serve_flags.h), then passed by const reference; a parent gives its children the
// same command line plus what only they need (internal_*).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace trireme {

enum class Executor : uint8_t { kAuto, kUni, kMp, kExternalLauncher, kSim };
enum class LoadBalancing : uint8_t { kInternal, kHybrid, kExternal };
enum class SchedulingPolicy : uint8_t { kFcfs, kPriority };
enum class Runner : uint8_t { kAuto, kGenerate, kPooling };
enum class DeviceKind : uint8_t { kAuto, kCpu, kCuda };

// --pooler-config: what is not said is as the model's directory has it.
struct PoolerOptions {
  std::string pooling_type;  // CLS, MEAN, LAST, or empty.
  std::optional<bool> normalize;
};

struct ModelOptions {
  std::string model;                            // Positional or --model: a directory, or a hub id.
  std::vector<std::string> served_model_names;  // --served-model-name; empty: `model` as given.
  std::string tokenizer;                        // --tokenizer; empty: the model's.
  std::string dtype = "auto";                   // auto | bfloat16 | float16 | float32
  std::string quantization;                     // --quantization; empty: as the checkpoint is
  uint32_t model_tokens_max = 0;                // --max-model-len; 0: from the model's config.
  std::optional<uint64_t> seed;                 // --seed; none: drawn at each start
  std::string revision;                         // --revision of a hub id
  std::string download_dir;                     // --download-dir; empty: the hub cache
  std::string generation_config = "auto";       // --generation-config auto | vllm | a directory
  Runner runner = Runner::kAuto;                // --runner, --convert
  PoolerOptions pooler;                         // --pooler-config
};

// --enable-eplb and --eplb-config: experts are placed by their load.
struct ExpertBalancingOptions {
  bool is_on = false;
  uint32_t window_size = 1000;    // Forwards whose rows count.
  uint32_t step_interval = 3000;  // Forwards from one placement to the next.
  uint32_t redundant_count = 0;   // num_redundant_experts: of each layer, over all ranks.
  uint32_t moves_per_step = 1;    // Experts that a forward moves to where they have to be loaded.
  bool logs = false;              // log_balancedness
  bool has_fields_without_effect = false;
};

struct ParallelOptions {
  uint32_t tensor_parallel_size = 1;
  uint32_t pipeline_parallel_size = 1;
  uint32_t data_parallel_size = 1;
  std::optional<uint32_t> data_parallel_size_local;  // 0: no engine on this node.
  std::optional<uint32_t> data_parallel_start_rank;
  std::optional<uint32_t> data_parallel_rank;
  std::string data_parallel_address = "127.0.0.1";
  std::optional<uint16_t> data_parallel_rpc_port;  // None: proto/member/cluster_shape.h says.
  LoadBalancing load_balancing = LoadBalancing::kInternal;
  Executor executor = Executor::kAuto;
  uint32_t node_count = 1;  // --nnodes
  uint32_t node_rank = 0;
  std::string master_address = "127.0.0.1";
  uint16_t master_port = 29501;
  bool headless = false;
  // --enable-expert-parallel: of a mixture, each expert is whole at one of all data-parallel x
  // tensor-parallel ranks, which step together; else every data-parallel rank has all of them.
  bool expert_parallel = false;
  ExpertBalancingOptions expert_balancing;

  [[nodiscard]] uint32_t expert_rank_count() const {
    return expert_parallel ? data_parallel_size * tensor_parallel_size : 1;
  }
};

// --speculative-config: prompt lookup, the method `ngram`, or a draft model.
struct SpeculationOptions {
  static constexpr uint32_t kTokensMax = 16;
  static constexpr uint32_t kLookupMax = 16;

  std::string method;       // Empty, ngram or draft_model.
  uint32_t tokens_max = 0;  // num_speculative_tokens; 0: no speculation
  std::optional<uint32_t> lookup_min;
  std::optional<uint32_t> lookup_max;
  std::string model;  // The draft model: a directory, or a hub id.
  std::string revision;
  std::string quantization;                      // As --quantization.
  uint32_t model_tokens_max = 0;                 // max_model_len; 0: from its config.
  std::optional<uint32_t> tensor_parallel_size;  // 1, or the model's, which is the default

  [[nodiscard]] bool has_draft_model() const { return method == "draft_model"; }
  // As in vLLM: where one bound is given it is the other's default too.
  [[nodiscard]] uint32_t shortest() const { return lookup_min.value_or(lookup_max.value_or(5)); }
  [[nodiscard]] uint32_t longest() const { return lookup_max.value_or(lookup_min.value_or(5)); }
};

struct SchedulerOptions {
  uint32_t sequences_max = 256;        // --max-num-seqs
  uint32_t batched_tokens_max = 2048;  // --max-num-batched-tokens
  bool chunked_prefill = true;
  bool prefix_caching = true;
  uint32_t partial_prefills_max = 0;       // --max-num-partial-prefills; 0: as many as fit
  uint32_t long_partial_prefills_max = 1;  // --max-long-partial-prefills; 0: as many as fit
  uint32_t long_prefill_tokens = 0;        // --long-prefill-token-threshold; 0: a step's budget
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  uint32_t priority_ageing_seconds = 60;
  SpeculationOptions speculation;
  uint32_t block_tokens = 16;      // --block-size
  uint32_t block_count = 0;        // --num-gpu-blocks-override; 0: as many as fit.
  uint64_t kv_bytes = 0;           // --kv-cache-memory-bytes; 0: from the memory share.
  double kv_offloading_gib = 0;    // --kv-offloading-size, of an engine; 0: nothing is offloaded
  std::string kv_offloading_path;  // --kv-offloading-path: a directory; empty: memory
  // --gpu-memory-utilization: of what weights and scratch leave; none: the worker's modest default
  std::optional<double> memory_utilization;
};

struct WorkerOptions {
  // --device: what workers compute on. kAuto: who starts a node's processes decides, and tells them
  // (common/device/device_choice.h).
  DeviceKind device = DeviceKind::kAuto;
  std::string cpu_threads_bind =
      "auto";  // --cpu-threads-bind auto | "0-3|4-7" (one list per worker of the node)
  std::string kv_cache_dtype = "auto";  // auto (the model's) | bfloat16 | int8
  std::string cpu_kernels = "auto";     // auto (the fastest) | plain | avx2 | avx512 | amx
  std::string sim_profile;              // --sim-profile: step-time model of the sim executor
  uint32_t timeout_seconds = 60;        // --distributed-timeout-seconds
};

struct ServerOptions {
  std::string host;  // Empty: 0.0.0.0
  uint16_t port = 8000;
  uint32_t api_server_count = 0;  // 0: one
  std::vector<std::string> api_keys;
  std::string ssl_certfile;
  std::string ssl_keyfile;
  std::string root_path;
  std::string chat_template;
  std::string response_role = "assistant";
  int32_t logprobs_max = 20;         // --max-logprobs; -1: no limit
  uint32_t queued_requests_max = 0;  // --max-num-queued-reqs; 0: the default bound (see admission)
  uint64_t queued_tokens_max = 0;    // --max-num-queued-tokens; 0: the default bound
  uint32_t stream_interval = 1;      // --stream-interval
  uint32_t shutdown_timeout_seconds =
      30;  // --shutdown-timeout: how long running requests may finish
  bool return_tokens_as_token_ids = false;
  bool log_requests = false;  // --enable-log-requests
  bool trust_request_chat_template = false;
  bool usage_always = false;         // --enable-force-include-usage
  bool log_stats = true;             // not --disable-log-stats
  bool aggregate_log_stats = false;  // --aggregate-engine-logging
  bool dev_mode = false;             // TRIREME_SERVER_DEV_MODE or VLLM_SERVER_DEV_MODE
};

struct ClusterOptions {
  std::string
      key_file;  // --cluster-key-file; else TRIREME_CLUSTER_KEY, else ~/.config/trireme/cluster.key
  bool insecure = false;               // --insecure-cluster
  uint32_t lease_milliseconds = 3000;  // --lease-ms
};

// What a parent tells a child and no user types; shown by --help-internal only.
struct InternalOptions {
  uint32_t api_server_index = 0;  // --internal-api-server-index
  bool is_api_server = false;     // set with it: api-server as that one, not as the launcher
  uint32_t engine_rank = 0;       // --internal-engine-rank: this process is this one rank
  bool is_engine_rank = false;    // set with it: engine-core as a rank, not as node agent
  std::string model_directory;    // --internal-model-directory: what the parent resolved --model to
  std::string draft_directory;    // --internal-draft-directory: likewise the draft model's
  std::string demo_model;         // --internal-demo-model: where no model is named
  // --internal-model-fingerprint: what tells the model there from others; empty: unknown
  std::string model_fingerprint;
  uint64_t launch = 0;   // --internal-launch: LaunchId of this node's start
  int death_fd = -1;     // --internal-death-fd: closed by the parent's death
  int counters_fd = -1;  // --internal-counters-fd: shared by a node's api-servers
  int pause_fd = -1;     // --internal-pause-fd: likewise
  int listen_fd = -1;    // --internal-listen-fd: the coordinator's bound socket, or HTTP's
  // --internal-node-worker-index, -count: this rank's worker among those here; count 0: by the
  // flags.
  // --internal-weight-images: of this rank's workers here, in order; empty: each has its own
  // weights
  std::vector<int> weight_image_fds;
  // --internal-lockstep: the node's StepBoard: its memory, then the bells of its ranks.
  std::vector<int> lockstep_fds;
  std::vector<int> expert_mesh_fds;  // --internal-expert-mesh: one for each pipeline stage
  uint32_t node_worker_index = 0;
  uint32_t node_worker_count = 0;
};

struct ServeOptions {
  ModelOptions model;
  ParallelOptions parallel;
  SchedulerOptions scheduler;
  WorkerOptions worker;
  ServerOptions server;
  ClusterOptions cluster;
  InternalOptions internal;

  // Where the model lies: what a parent found for a hub id, else the name itself.
  [[nodiscard]] const std::string& model_directory() const {
    return internal.model_directory.empty() ? model.model : internal.model_directory;
  }
  [[nodiscard]] const std::string& draft_directory() const {
    const std::string& found = internal.draft_directory;
    return found.empty() ? scheduler.speculation.model : found;
  }
  // Of the tensor-parallel ranks that have the draft model.
  [[nodiscard]] uint32_t draft_tensor_parallel_size() const {
    return scheduler.speculation.tensor_parallel_size.value_or(parallel.tensor_parallel_size);
  }
};

}  // namespace trireme
