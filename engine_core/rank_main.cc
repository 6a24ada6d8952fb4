#include "engine_core/rank_main.h"

#include <pthread.h>

#include <algorithm>

#include "common/hub/model_fingerprint.h"
#include "common/log.h"
#include "common/random.h"
#include "engine_core/engine_channel.h"
#include "engine_core/engine_loop.h"
#include "engine_core/executor.h"
#include "engine_core/io_thread.h"
#include "engine_core/lockstep/lockstep_group.h"
#include "engine_core/lockstep/tree_exchange.h"
#include "engine_core/scheduler.h"

namespace trireme::engine {
namespace {

static_assert(SpeculationOptions::kTokensMax <= wire::kDraftTokensMax);
static_assert(SpeculationOptions::kLookupMax <= kNgramMax);

// In a group every rank waits for the slowest worker: a step that is late is told of sooner, and a
// worker that stands still, without progress or CPU time, is given up sooner.
constexpr Duration kGroupStepWarning = std::chrono::seconds(2);
constexpr Duration kGroupWorkerTimeout = std::chrono::seconds(3);

// What the KV cache can hold of one sequence bounds its length. Asked for more: an error that says
// what would fit; by the model's own limit: less, and said.
StatusOr<uint32_t> fit_model_tokens(const ServeOptions& options, const KvCapacity& capacity) {
  const uint64_t kv_tokens = uint64_t{capacity.block_count} * options.scheduler.block_tokens;
  if (kv_tokens < 2) {
    return error(StatusCode::kResourceExhausted, "no memory for a single KV block of %u tokens",
                 options.scheduler.block_tokens);
  }
  if (capacity.model_tokens_max <= kv_tokens) return capacity.model_tokens_max;
  if (options.model.model_tokens_max > 0) {
    return error(StatusCode::kResourceExhausted,
                 "--max-model-len %u needs %u KV blocks, there is memory for %u: lower it to %u, "
                 "or give more by --gpu-memory-utilization or --kv-cache-memory-bytes",
                 options.model.model_tokens_max,
                 (capacity.model_tokens_max + options.scheduler.block_tokens - 1) /
                     options.scheduler.block_tokens,
                 capacity.block_count, kv_tokens);
  }
  log::warning("model_length_reduced",
               {{"from", capacity.model_tokens_max}, {"to", kv_tokens}, {"reason", "KV memory"}});
  return static_cast<uint32_t>(kv_tokens);
}

SchedulerConfig scheduler_config(const ServeOptions& options, const KvCapacity& capacity,
                                 uint32_t model_tokens_max, const Executor& executor) {
  const SchedulerOptions& asked = options.scheduler;
  SchedulerConfig config;
  config.sequences_max = asked.sequences_max;
  config.batched_tokens_max = asked.batched_tokens_max;
  config.model_tokens_max = model_tokens_max;
  config.chunked_prefill = asked.chunked_prefill && !capacity.needs_whole_prompts;
  config.partial_prefills_max = asked.partial_prefills_max;
  config.long_partial_prefills_max = asked.long_partial_prefills_max;
  config.long_prefill_tokens = asked.long_prefill_tokens;
  config.policy = asked.policy;
  config.priority_ageing = std::chrono::seconds(asked.priority_ageing_seconds);
  config.draft_model_tokens_max = capacity.draft_model_tokens_max;
  // Without a model (sim) there is none that guesses.
  const bool can_guess =
      !asked.speculation.has_draft_model() || capacity.draft_model_tokens_max > 0;
  config.draft_tokens_max = can_guess ? asked.speculation.tokens_max : 0;
  config.draft_lookup = {asked.speculation.shortest(), asked.speculation.longest()};
  config.steps_in_flight_max = executor.steps_in_flight_max();
  config.pipeline_stages = options.parallel.pipeline_parallel_size;
  config.kv.block_count = capacity.block_count;
  config.kv.block_tokens = asked.block_tokens;
  config.kv.prefix_caching = asked.prefix_caching;
  config.kv.store_slot_count = capacity.store_slot_count;
  config.store_slot_bytes = capacity.store_slot_bytes;
  for (uint64_t& word : config.kv.hash_key) word = entropy64();
  return config;
}

// To the I/O thread.
class ChannelCarrier final : public StepCarrier {
 public:
  explicit ChannelCarrier(EngineChannel& channel) : channel_(channel) {}
  void begin_wave(WaveId wave, uint32_t own_node, std::vector<std::string> addresses) override {
    put({.addresses = std::move(addresses), .wave = wave, .node = own_node});
  }
  void send(uint32_t node, const wire::StepAgreement& message) override {
    put({.node = node, .message = message});
  }

 private:
  void put(StepMail mail) {
    (void)channel_.step_mail.push(std::move(mail));
    channel_.io_bell.ring();
  }
  EngineChannel& channel_;
};

// Null where the rank steps alone: a dense model, or every rank with all its experts.
StatusOr<std::unique_ptr<LockstepGroup>> join_group(const ServeOptions& options,
                                                    const KvCapacity& capacity,
                                                    StepCarrier& carrier) {
  const bool steps_together = capacity.has_experts && options.parallel.expert_parallel &&
                              options.parallel.data_parallel_size > 1;
  if (options.parallel.data_parallel_size > 1 || options.parallel.expert_parallel) {
    log::info("step_agreement", {{"steps_together", steps_together},
                                 {"has_experts", capacity.has_experts},
                                 {"expert_parallel", options.parallel.expert_parallel}});
  }
  if (options.parallel.expert_balancing.is_on && !capacity.has_experts) {
    log::warning("experts_not_balanced", {{"note", "--enable-eplb: the model has no experts"}});
  }
  if (!steps_together) return nullptr;
  const std::vector<int>& fds = options.internal.lockstep_fds;
  if (fds.empty()) return error(StatusCode::kInternal, "--internal-lockstep is missing");
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping memory, shm::Mapping::attach(UniqueFd(fds.front())));
  std::vector<UniqueFd> bells;
  for (std::size_t i = 1; i < fds.size(); ++i) bells.emplace_back(fds[i]);
  const EngineId rank{options.internal.engine_rank};
  TRIREME_ASSIGN_OR_RETURN(auto board,
                           StepBoard::attach(std::move(memory), std::move(bells), rank.value));
  return std::make_unique<LockstepGroup>(
      rank, std::make_unique<TreeExchange>(rank.value, std::move(board), carrier));
}

Status serve(const ServeOptions& options, Executor& executor, Incarnation incarnation,
             EngineChannel& channel, IoThread& io, StopSignal& stop, const process::Pulse& pulse) {
  TRIREME_ASSIGN_OR_RETURN(const KvCapacity capacity, executor.start(channel.main_bell, stop));
  TRIREME_ASSIGN_OR_RETURN(const uint32_t model_tokens_max, fit_model_tokens(options, capacity));
  ChannelCarrier carrier(channel);
  TRIREME_ASSIGN_OR_RETURN(auto group, join_group(options, capacity, carrier));
  SchedulerConfig scheduling = scheduler_config(options, capacity, model_tokens_max, executor);
  if (group != nullptr) scheduling.steps_in_flight_max = 1;
  Scheduler scheduler(scheduling);
  const EngineId rank{options.internal.engine_rank};
  EngineLoopConfig config{
      .engine = rank,
      .incarnation = incarnation,
      .drain_timeout = std::chrono::seconds(options.server.shutdown_timeout_seconds),
      .worker_timeout = std::chrono::seconds(options.worker.timeout_seconds),
      .pulse = pulse};
  config.step_timeout = std::max(config.step_timeout, config.worker_timeout);
  if (group != nullptr) {  // The others wait.
    config.step_warning = kGroupStepWarning;
    config.worker_timeout = std::min(config.worker_timeout, kGroupWorkerTimeout);
  }
  EngineLoop loop(config, scheduler, executor, channel, std::move(group));
  wire::MemberReady member{.block_count = capacity.block_count,
                           .block_tokens = options.scheduler.block_tokens,
                           .model_tokens_max = model_tokens_max,
                           .worker_pids = capacity.worker_pids};
  if (const std::string endpoint = io.peers_endpoint(); !endpoint.empty()) {
    member.addresses.push_back(endpoint);
    member.addresses.insert(member.addresses.end(), capacity.expert_endpoints.begin(),
                            capacity.expert_endpoints.end());
  }
  io.set_ready({.engine = rank,
                .incarnation = incarnation,
                .block_count = capacity.block_count,
                .block_tokens = options.scheduler.block_tokens,
                .model_tokens_max = model_tokens_max,
                .sequences_max = options.scheduler.sequences_max,
                .batched_tokens_max = options.scheduler.batched_tokens_max},
               member);
  log::info("rank_ready", {{"blocks", capacity.block_count},
                           {"block_tokens", options.scheduler.block_tokens},
                           {"offload_blocks", capacity.store_slot_count},
                           {"model_tokens_max", model_tokens_max}});
  return loop.run(stop);
}

}  // namespace

Status run_rank(const ServeOptions& options, const std::vector<std::string>& command_line,
                StopSignal& stop, const process::Pulse& pulse) {
  const std::string name = "eng" + std::to_string(options.internal.engine_rank) + "/main";
  ::pthread_setname_np(::pthread_self(), name.c_str());
  const Incarnation incarnation{entropy64()};
  TRIREME_ASSIGN_OR_RETURN(auto channel, EngineChannel::create());
  TRIREME_ASSIGN_OR_RETURN(auto executor, make_executor(options, command_line));
  // As the directory is now: a model that was changed under a running cluster is another one. One
  // that cannot be read is for the workers to tell.
  ServeOptions ours = options;
  ours.internal.model_fingerprint = hub::model_fingerprint(options.model_directory()).value_or("");
  TRIREME_ASSIGN_OR_RETURN(auto io, IoThread::start(ours, incarnation, *channel));
  const Status status = serve(options, *executor, incarnation, *channel, *io, stop, pulse);
  io->stop(status.ok() ? "stopped" : std::string(status.message()));
  executor->stop();
  // Asked to stop while it started: that is what it did.
  return status.code() == StatusCode::kCancelled ? absl::OkStatus() : status;
}

}  // namespace trireme::engine
