// The rules that join or bound fields of ServeOptions.
#include "common/options/expert_balancing.h"
#include "common/options/local_workers.h"
#include "common/options/serve_flags.h"
#include "common/options/speculation.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

// Defaults always fit; what is named was given.
Status validate_local_ranks(const ParallelOptions& p) {
  const bool has_rank = p.data_parallel_rank.has_value();
  const char* const flag = has_rank ? "--data-parallel-rank" : "--data-parallel-start-rank";
  const uint64_t size = p.data_parallel_size;
  const uint64_t begin = p.data_parallel_rank.value_or(p.data_parallel_start_rank.value_or(0));
  const bool has_count = p.data_parallel_size_local.has_value();
  if (begin > size || (begin == size && !has_count)) {
    return error(kBad, "%s %u does not fit --data-parallel-size %u, whose ranks are 0 to %u", flag,
                 begin, size, size - 1);
  }
  if (!has_count || begin + *p.data_parallel_size_local <= size) return absl::OkStatus();
  if (begin == 0 && !has_rank) {
    return error(kBad, "--data-parallel-size-local %u is more than --data-parallel-size %u",
                 *p.data_parallel_size_local, size);
  }
  return error(kBad,
               "ranks %u..%u (%s %u, --data-parallel-size-local %u) do not fit "
               "--data-parallel-size %u",
               begin, begin + *p.data_parallel_size_local - 1, flag, begin,
               *p.data_parallel_size_local, size);
}

Status validate_ranks(const ParallelOptions& p) {
  if (p.data_parallel_size == 0) return error(kBad, "--data-parallel-size 0: must be at least 1");
  if (p.tensor_parallel_size == 0)
    return error(kBad, "--tensor-parallel-size 0: must be at least 1");
  if (p.pipeline_parallel_size == 0) {
    return error(kBad, "--pipeline-parallel-size 0: must be at least 1");
  }
  if (p.data_parallel_rank.has_value() && *p.data_parallel_rank >= p.data_parallel_size) {
    return error(kBad, "--data-parallel-rank %u does not fit --data-parallel-size %u",
                 *p.data_parallel_rank, p.data_parallel_size);
  }
  TRIREME_RETURN_IF_ERROR(validate_local_ranks(p));
  if (p.headless && p.data_parallel_size_local == 0U) {
    return error(kBad, "--headless with --data-parallel-size-local 0 leaves nothing to run");
  }
  if (p.node_count == 0) return error(kBad, "--nnodes 0: must be at least 1");
  if (p.node_rank > 0 && p.node_count == 1) {
    return error(kBad, "--node-rank %u needs --nnodes, the number of nodes that an engine spans",
                 p.node_rank);
  }
  if (p.node_rank >= p.node_count) {
    return error(kBad, "--node-rank %u does not fit --nnodes %u, whose nodes are 0 to %u",
                 p.node_rank, p.node_count, p.node_count - 1);
  }
  return absl::OkStatus();
}

Status validate_nodes(const ParallelOptions& p) {
  if (p.node_count == 1) return absl::OkStatus();
  const uint64_t world = uint64_t{p.tensor_parallel_size} * p.pipeline_parallel_size;
  if (world % p.node_count != 0) {
    return error(kBad,
                 "--nnodes %u does not divide the %u workers of an engine "
                 "(--tensor-parallel-size %u x --pipeline-parallel-size %u)",
                 p.node_count, world, p.tensor_parallel_size, p.pipeline_parallel_size);
  }
  if (p.executor == Executor::kUni || p.executor == Executor::kSim) {
    return error(kBad, "--nnodes %u needs --distributed-executor-backend mp", p.node_count);
  }
  if (p.executor == Executor::kExternalLauncher) {
    return error(kBad, "--nnodes %u: with external_launcher the launcher places the workers",
                 p.node_count);
  }
  if (p.node_rank > 0 && !p.headless) {
    return error(kBad,
                 "--node-rank %u has workers only and needs --headless: the engine and the front "
                 "end are on node 0",
                 p.node_rank);
  }
  return absl::OkStatus();
}

Status validate_device(const WorkerOptions& worker, Executor executor) {
  if (worker.device != DeviceKind::kCuda || has_worker_processes(executor)) return absl::OkStatus();
  return error(kBad,
               "--device cuda: with --distributed-executor-backend %s there is no worker process; "
               "use mp, or --device cpu",
               executor == Executor::kUni ? "uni" : "sim");
}

Status validate_experts(const ParallelOptions& p) {
  if (!p.expert_parallel) return absl::OkStatus();
  if (p.executor == Executor::kUni || p.executor == Executor::kExternalLauncher) {
    return error(kBad, "--enable-expert-parallel needs --distributed-executor-backend mp");
  }
  if (p.node_count == 1) return absl::OkStatus();
  return error(
      kBad,
      "--enable-expert-parallel: experts are at workers of whole engines, and with --nnodes "
      "%u an engine is on several nodes; leave out one of them",
      p.node_count);
}

Status validate_balancing(const ParallelOptions& p) {
  if (p.load_balancing == LoadBalancing::kExternal && !p.data_parallel_rank.has_value()) {
    return error(kBad, "--data-parallel-external-lb needs --data-parallel-rank");
  }
  if (p.load_balancing == LoadBalancing::kHybrid && !p.data_parallel_size_local.has_value()) {
    return error(kBad, "--data-parallel-hybrid-lb needs --data-parallel-size-local");
  }
  return absl::OkStatus();
}

Status validate_offloading(const SchedulerOptions& s) {
  constexpr double kGibMax = 1 << 20;
  if (!(s.kv_offloading_gib >= 0 && s.kv_offloading_gib <= kGibMax)) {
    return error(kBad, "--kv-offloading-size %g: GiB from 0 to %g", s.kv_offloading_gib, kGibMax);
  }
  if (s.kv_offloading_gib > 0 && !s.prefix_caching) {
    return error(kBad,
                 "--kv-offloading-size %g: blocks come back as hits of the prefix cache, which "
                 "--no-enable-prefix-caching turns off; leave out one of them",
                 s.kv_offloading_gib);
  }
  if (s.kv_offloading_gib == 0 && !s.kv_offloading_path.empty()) {
    return error(kBad, "--kv-offloading-path %s needs --kv-offloading-size", s.kv_offloading_path);
  }
  return absl::OkStatus();
}

Status validate_scheduler(const SchedulerOptions& s) {
  if (s.sequences_max == 0) return error(kBad, "--max-num-seqs 0: must be at least 1");
  if (s.sequences_max > 65536)
    return error(kBad, "--max-num-seqs %u: at most 65536", s.sequences_max);
  if (s.batched_tokens_max < s.sequences_max) {
    return error(kBad, "--max-num-batched-tokens %u must be at least --max-num-seqs %u",
                 s.batched_tokens_max, s.sequences_max);
  }
  if (s.block_tokens < 16 || (s.block_tokens & (s.block_tokens - 1)) != 0 || s.block_tokens > 256) {
    return error(kBad, "--block-size %u: must be a power of two from 16 to 256", s.block_tokens);
  }
  if (const double share = s.memory_utilization.value_or(1); !(share > 0 && share <= 1)) {
    return error(kBad, "--gpu-memory-utilization %g is not in (0, 1]", share);
  }
  if (s.partial_prefills_max > 0 && s.long_partial_prefills_max > s.partial_prefills_max) {
    return error(kBad, "--max-long-partial-prefills %u is above --max-num-partial-prefills %u",
                 s.long_partial_prefills_max, s.partial_prefills_max);
  }
  // Any priority times this must fit a queue's place, in microseconds.
  if (s.priority_ageing_seconds > 3600) {
    return error(kBad, "--priority-ageing-seconds %u: at most 3600; 0 for strict priorities",
                 s.priority_ageing_seconds);
  }
  return validate_offloading(s);
}

Status validate_server(const ServerOptions& s, bool is_headless) {
  if (is_headless && s.api_server_count > 0) {
    return error(kBad, "--api-server-count %u: with --headless there is no HTTP server",
                 s.api_server_count);
  }
  if (s.ssl_certfile.empty() && !s.ssl_keyfile.empty()) {
    return error(kBad, "--ssl-keyfile needs --ssl-certfile");
  }
  if (s.api_server_count > 64) {
    return error(kBad, "--api-server-count %u: at most 64", s.api_server_count);
  }
  if (s.logprobs_max < -1) return error(kBad, "--max-logprobs %d: at least -1", s.logprobs_max);
  return absl::OkStatus();
}

}  // namespace

Status validate(const ServeOptions& options) {
  TRIREME_RETURN_IF_ERROR(validate_ranks(options.parallel));
  TRIREME_RETURN_IF_ERROR(validate_nodes(options.parallel));
  TRIREME_RETURN_IF_ERROR(validate_balancing(options.parallel));
  TRIREME_RETURN_IF_ERROR(validate_device(options.worker, options.parallel.executor));
  TRIREME_RETURN_IF_ERROR(validate_experts(options.parallel));
  TRIREME_RETURN_IF_ERROR(validate_expert_balancing(options.parallel));
  TRIREME_RETURN_IF_ERROR(validate_scheduler(options.scheduler));
  TRIREME_RETURN_IF_ERROR(
      validate_speculation(options.scheduler.speculation, options.parallel.tensor_parallel_size));
  TRIREME_RETURN_IF_ERROR(validate_server(options.server, options.parallel.headless));
  if (options.cluster.lease_milliseconds < 200) {
    return error(kBad, "--lease-ms %u: at least 200", options.cluster.lease_milliseconds);
  }
  if (options.worker.timeout_seconds == 0) {
    return error(kBad, "--distributed-timeout-seconds 0: must be at least 1");
  }
  return absl::OkStatus();
}

}  // namespace trireme
