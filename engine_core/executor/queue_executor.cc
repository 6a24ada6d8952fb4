#include "engine_core/executor/queue_executor.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/options/local_workers.h"
#include "worker/expert_parallel.h"
#include "worker/memory_budget.h"
#include "worker/models/decoder_weights.h"
#include "worker/weights/draft_config.h"
#include "worker/weights/mapped_file.h"
#include "worker/weights/model_config.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kStoreSlotsMax = 1U << 26;
constexpr std::size_t kConfigBytesMax = 4'000'000;
constexpr Duration kStartPoll = std::chrono::milliseconds(20);
constexpr Duration kLoadReport = std::chrono::seconds(10);
// The ring holds more steps than may be in flight: a worker that lets it fill has died or hangs.
constexpr Duration kSubmitMax = std::chrono::seconds(30);
// How often a sender to other nodes looks whether it has to repeat something.
constexpr Duration kServiceBusy = std::chrono::milliseconds(100);
constexpr Duration kServiceIdle = std::chrono::seconds(1);

wire::ShmQueueStats stats_of(const shm::QueueMemory& queue) {
  const shm::QueueStats stats = queue.stats();
  return {.messages = stats.records,
          .bytes = stats.bytes,
          .oversize_messages = stats.oversize_records,
          .writer_waits = stats.writer_waits,
          .writer_parks = stats.writer_parks,
          .reader_parks = stats.reader_parks,
          .chunks_waiting = stats.chunks_waiting,
          .chunks_max = queue.shape().slot_count};
}

StatusOr<worker::ModelConfig> read_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string text, worker::read_text_file(path, kConfigBytesMax));
  return worker::parse_model_config(text, path);
}

// Of a sequence in the draft model; 0: there is none. Said here what is wrong with it, before a
// worker per part is started that can only say the same.
StatusOr<uint32_t> draft_model_length(const ServeOptions& options,
                                      const worker::ModelConfig& config) {
  if (!options.scheduler.speculation.has_draft_model()) return 0U;
  TRIREME_ASSIGN_OR_RETURN(const worker::ModelConfig draft, read_config(options.draft_directory()));
  TRIREME_RETURN_IF_ERROR(
      worker::DecoderShare::of(draft, {.tp_size = options.draft_tensor_parallel_size()}).status());
  return worker::check_draft_config(options, config, draft);
}

// Said here, before a worker per part is started that can only say the same.
Status check_worker_count(const ParallelOptions& parallel, const worker::ModelConfig& config) {
  const uint32_t tp = parallel.tensor_parallel_size;
  const uint32_t pp = parallel.pipeline_parallel_size;
  const worker::WorkerPlace first{.tp_size = tp, .pp_size = pp};
  TRIREME_RETURN_IF_ERROR(worker::DecoderShare::of(config, first).status());
  if (uint64_t{tp} * pp <= shm::kWaitersMax) return absl::OkStatus();
  return error(StatusCode::kInvalidArgument,
               "--tensor-parallel-size %u x --pipeline-parallel-size %u: an engine has at most %u "
               "workers",
               tp, pp, shm::kWaitersMax);
}

// How long a sequence may be: --max-model-len, or what the model's config.json says.
StatusOr<uint32_t> model_length(const ModelOptions& options, const worker::ModelConfig& config) {
  const uint32_t asked = options.model_tokens_max;
  if (asked > config.positions_max) {
    return error(StatusCode::kInvalidArgument,
                 "--max-model-len %u is more than the model's max_position_embeddings %u", asked,
                 config.positions_max);
  }
  return asked > 0 ? asked : config.positions_max;
}

}  // namespace

QueueExecutor::QueueExecutor(const ServeOptions& options, uint32_t local_count)
    : options_(options),
      local_count_(local_count),
      calls_answered_(worker_count()),
      watch_(EngineId{options.internal.engine_rank}, options.parallel.tensor_parallel_size) {}

uint32_t QueueExecutor::worker_count() const {
  return options_.parallel.tensor_parallel_size * options_.parallel.pipeline_parallel_size;
}

uint32_t QueueExecutor::steps_in_flight_max() const {
  const uint32_t stages = options_.parallel.pipeline_parallel_size;
  return stages > 1 ? stages + 1 : 2;
}

StatusOr<KvCapacity> QueueExecutor::start(Bell& bell, StopSignal& stop) {
  bell_ = &bell;
  TRIREME_ASSIGN_OR_RETURN(const worker::ModelConfig config,
                           read_config(options_.model_directory()));
  TRIREME_ASSIGN_OR_RETURN(const uint32_t length, model_length(options_.model, config));
  TRIREME_RETURN_IF_ERROR(check_worker_count(options_.parallel, config));
  TRIREME_RETURN_IF_ERROR(worker::check_redundant_experts(options_, config));
  const StatusOr<uint32_t> draft_length = draft_model_length(options_, config);
  if (!draft_length.ok()) return annotate(draft_length.status(), "--speculative-config");
  TRIREME_RETURN_IF_ERROR(make_queues());
  is_started_ = true;
  TRIREME_RETURN_IF_ERROR(start_workers(stop));
  TRIREME_ASSIGN_OR_RETURN(const auto ready, wait_for_workers(stop));
  TRIREME_ASSIGN_OR_RETURN(KvCapacity capacity, size_kv(ready, length));
  capacity.draft_model_tokens_max = *draft_length;
  capacity.has_experts = config.expert_count > 0;
  TRIREME_RETURN_IF_ERROR(size_store(ready, capacity));
  TRIREME_RETURN_IF_ERROR(allocate_kv(capacity, stop));
  // The experts of an engine that is alone are at its tensor-parallel ranks, for good.
  const ParallelOptions& parallel = options_.parallel;
  if (capacity.has_experts && parallel.expert_rank_count() > 1 &&
      parallel.data_parallel_size == 1) {
    TRIREME_RETURN_IF_ERROR(join_wave({.wave = WaveId{0}, .ranks = {0}}));
  }
  worker_pids_ = capacity.worker_pids;
  collector_thread_ = std::thread([this] { collect_results(); });
  on_started();
  return capacity;
}

Status QueueExecutor::make_queues() {
  TRIREME_ASSIGN_OR_RETURN(
      auto step_memory, shm::QueueMemory::create("trireme-steps", {.reader_count = local_count_}));
  TRIREME_ASSIGN_OR_RETURN(
      auto result_memory,
      shm::QueueMemory::create("trireme-results", {.ring_count = worker_count()}));
  steps_.emplace(std::move(step_memory));
  results_memory_.emplace(std::move(result_memory));
  sender_.emplace(*steps_, 0U);
  expert_loads_.resize(worker_count());
  collector_.emplace(*results_memory_);
  return absl::OkStatus();
}

StatusOr<shm::ShmCollector::Received> QueueExecutor::await_record(StopSignal& stop) {
  while (true) {
    const Status health = check_workers();  // Looked at first: its last words are read below.
    if (elsewhere_ != nullptr) elsewhere_->service();
    auto received = collector_->receive(Deadline::after(kStartPoll));
    if (received.ok() || received.status().code() != StatusCode::kDeadlineExceeded) return received;
    TRIREME_RETURN_IF_ERROR(health);
    if (stop.update() != StopSignal::Level::kRun) {
      return error(StatusCode::kCancelled, "told to stop while starting");
    }
  }
}

StatusOr<std::vector<wire::WorkerReady>> QueueExecutor::wait_for_workers(StopSignal& stop) {
  std::vector<wire::WorkerReady> all(worker_count());
  for (uint32_t count = 0; count < all.size(); ++count) {
    TRIREME_ASSIGN_OR_RETURN(const auto received, await_record(stop));
    auto ready = wire::unpack<wire::WorkerReady>(received.record);
    collector_->release();
    TRIREME_RETURN_IF_ERROR(ready.status());
    if (!ready->error.empty()) {
      return error(StatusCode::kFailedPrecondition, "worker rank %u: %s", ready->rank,
                   ready->error);
    }
    all[received.ring] = *std::move(ready);
  }
  return all;
}

StatusOr<KvCapacity> QueueExecutor::size_kv(const std::vector<wire::WorkerReady>& ready,
                                            uint32_t model_tokens_max) {
  KvCapacity capacity{.block_count = options_.scheduler.block_count,
                      .model_tokens_max = model_tokens_max};
  uint64_t fits = UINT32_MAX;
  for (const wire::WorkerReady& worker : ready) {
    capacity.worker_pids.push_back(worker.pid);
    capacity.expert_endpoints.push_back(worker.expert_endpoint);
    capacity.needs_whole_prompts |= worker.needs_whole_prompts;
    if (worker.block_bytes > 0) fits = std::min(fits, worker.kv_bytes_max / worker.block_bytes);
  }
  if (fits == 0) {
    return error(StatusCode::kResourceExhausted,
                 "no memory for KV: a block of %u tokens takes %u bytes and a worker has %u for "
                 "all of them; raise --kv-cache-memory-bytes or --gpu-memory-utilization",
                 options_.scheduler.block_tokens, ready.front().block_bytes,
                 ready.front().kv_bytes_max);
  }
  if (capacity.block_count > fits) {
    return error(StatusCode::kResourceExhausted,
                 "--num-gpu-blocks-override %u: there is memory for %u blocks",
                 capacity.block_count, fits);
  }
  if (capacity.block_count == 0) {
    // More than every slot at full length would only fill the machine with old prefixes.
    const uint64_t block_tokens = options_.scheduler.block_tokens;
    const uint64_t useful = uint64_t{options_.scheduler.sequences_max} *
                            ((model_tokens_max + block_tokens - 1) / block_tokens);
    capacity.block_count = static_cast<uint32_t>(std::min(fits, useful));
  }
  for (const wire::WorkerReady& worker : ready) {
    kv_bytes_ = std::max(kv_bytes_, worker.block_bytes * capacity.block_count);
  }
  return capacity;
}

// All workers do the same moves, so each has as many slots, of its own block's size.
Status QueueExecutor::size_store(const std::vector<wire::WorkerReady>& ready,
                                 KvCapacity& capacity) {
  const auto bytes = static_cast<uint64_t>(options_.scheduler.kv_offloading_gib * (1ULL << 30));
  if (options_.scheduler.kv_offloading_gib == 0) return absl::OkStatus();
  for (const wire::WorkerReady& worker : ready) capacity.store_slot_bytes += worker.block_bytes;
  const uint64_t slots = bytes / std::max<uint64_t>(capacity.store_slot_bytes, 1);
  if (slots == 0) {
    return error(StatusCode::kInvalidArgument,
                 "--kv-offloading-size %g GiB is less than one KV block, which takes %u bytes in "
                 "all workers together",
                 options_.scheduler.kv_offloading_gib, capacity.store_slot_bytes);
  }
  if (slots > kStoreSlotsMax) {
    return error(
        StatusCode::kInvalidArgument,
        "--kv-offloading-size %g GiB is more than %u KV blocks of %u bytes, all that can be "
        "kept track of",
        options_.scheduler.kv_offloading_gib, kStoreSlotsMax, capacity.store_slot_bytes);
  }
  capacity.store_slot_count = static_cast<uint32_t>(slots);
  if (worker_count() > 1) {
    gathering_.emplace(worker_count(), worker_count() - options_.parallel.tensor_parallel_size);
  }
  return absl::OkStatus();
}

Status QueueExecutor::allocate_kv(const KvCapacity& capacity, StopSignal& stop) {
  buffer_.clear();
  wire::pack(wire::KvInit{capacity.block_count, capacity.store_slot_count}, buffer_);
  TRIREME_RETURN_IF_ERROR(broadcast(Deadline::after(kSubmitMax)));
  for (uint32_t count = 0; count < worker_count(); ++count) {
    TRIREME_ASSIGN_OR_RETURN(const auto received, await_record(stop));
    const auto result = wire::unpack<wire::StepResult>(received.record);
    collector_->release();
    TRIREME_RETURN_IF_ERROR(result.status());
    if (!result->error.empty()) {
      return error(StatusCode::kResourceExhausted, "worker rank %u: %s", received.ring,
                   result->error);
    }
  }
  return absl::OkStatus();
}

Status QueueExecutor::submit(const wire::StepInput& step, Instant) {
  buffer_.clear();
  wire::pack(step, buffer_);
  ++steps_sent_;
  ++steps_uncollected_;
  return broadcast(Deadline::after(kSubmitMax));
}

Status QueueExecutor::join_wave(const wire::JoinWave& wave) {
  buffer_.clear();
  wire::pack(wave, buffer_);
  return broadcast(Deadline::after(kSubmitMax));
}

Status QueueExecutor::release_memory() {
  buffer_.clear();
  wire::pack(wire::ReleaseKv{}, buffer_);
  last_release_ = calls_asked_ + 1;
  return broadcast_call();
}

Status QueueExecutor::ask_expert_tables() {
  buffer_.clear();
  wire::pack(wire::TellExperts{}, buffer_);
  expert_tables_.clear();
  return broadcast_call();
}

std::optional<std::vector<wire::ExpertTable>> QueueExecutor::take_expert_tables() {
  while (auto table = told_tables_.pop()) expert_tables_.push_back(*std::move(table));
  if (expert_tables_.size() < worker_count()) return std::nullopt;
  std::ranges::sort(expert_tables_, {}, [](const wire::ExpertTable& table) {
    return std::pair(table.stage, table.place);
  });
  return std::exchange(expert_tables_, {});
}

// As at the start, and for all of this node's workers, as its other engines wake up too.
Status QueueExecutor::check_memory() const {
  if (options_.worker.device == DeviceKind::kCuda) return absl::OkStatus();  // The GPU's.
  const uint64_t wanted = kv_bytes_ * local_workers(options_, 0).count;
  const uint64_t available = worker::available_memory("");
  if (wanted <= available) return absl::OkStatus();
  return error(StatusCode::kResourceExhausted,
               "KV memory of this node's workers: %.1f MiB needed, %.1f MiB of memory available; "
               "end what has taken it, then wake up",
               static_cast<double>(wanted) / (1 << 20), static_cast<double>(available) / (1 << 20));
}

// In buffer_; each worker answers in the order of calls.
Status QueueExecutor::broadcast_call() {
  ++calls_asked_;
  return broadcast(Deadline::after(kSubmitMax));
}

uint64_t QueueExecutor::calls_answered_by_all() const {
  uint64_t fewest = calls_asked_;
  for (const std::atomic<uint64_t>& count : calls_answered_) {
    fewest = std::min(fewest, count.load());
  }
  return fewest;
}

// Those elsewhere first: their way is longer.
Status QueueExecutor::broadcast(Deadline deadline) {
  if (elsewhere_ != nullptr) TRIREME_RETURN_IF_ERROR(elsewhere_->send(buffer_, deadline));
  return sender_->send(buffer_, deadline);
}

StatusOr<bool> QueueExecutor::try_collect(wire::StepResult& result, Instant) {
  if (auto collected = results_.pop()) {
    result = *std::move(collected);
    --steps_uncollected_;
    end_watch();
    return true;
  }
  if (has_failed_.load()) return failure_;
  return false;
}

Instant QueueExecutor::next_result_at() const {
  if (elsewhere_ == nullptr) return Instant::max();
  return now() + (steps_uncollected_ > 0 ? kServiceBusy : kServiceIdle);
}

std::optional<wire::ShmStats> QueueExecutor::shm_stats() const {
  if (!is_started_) return std::nullopt;
  return wire::ShmStats{.steps = stats_of(*steps_), .results = stats_of(*results_memory_)};
}

LateStep QueueExecutor::watch_step(StepId late, Instant now) {
  if (late_step_ != late) {
    tell_late_step(late_step_ = late);
    is_call_late_ = false;
    watch_.begin();
  }
  return look_at_workers(late, now);
}

LateStep QueueExecutor::watch_call(Instant now) {
  if (!is_call_late_) {
    end_watch();
    is_call_late_ = true;
    watch_.begin();
  }
  return look_at_workers(WorkerWatch::kNoStep, now);
}

LateStep QueueExecutor::look_at_workers(StepId late, Instant now) {
  const int sent_after = std::max(steps_uncollected_ - 1, 0);
  std::vector<WorkerSighting> seen(worker_count());
  for (uint32_t rank = 0; rank < seen.size(); ++rank) {
    seen[rank].pid = worker_pids_[rank];
    seen[rank].steps_due = steps_sent_ - static_cast<uint64_t>(sent_after);
    seen[rank].owes_answer = calls_answered_[rank].load() < calls_asked_;
    seen[rank].life = worker::look_at(worker::sign_of_life_in(results_memory_->note(rank)));
    if (seen[rank].life.phase == worker::WorkerPhase::kUnknown) continue;
    if (const auto process = process::read_process_state(seen[rank].pid)) {
      seen[rank].process = *process;
    }
  }
  watch_.look(seen, now);
  const bool is_dark = std::all_of(seen.begin(), seen.end(), [](const WorkerSighting& worker) {
    return worker.life.phase == worker::WorkerPhase::kUnknown;
  });
  LateStep step;
  if (is_dark) return step;
  step.text = watch_.describe(late);
  step.facts = watch_.facts(late);
  if (const auto behind = watch_.find_behind(late)) {
    step.behind = behind->rank;
    step.still = behind->still;
    step.motionless = behind->motionless;
    step.is_loading = behind->is_loading;
  } else {
    step.awaits = watch_.find_awaited_ranks();
  }
  return step;
}

void QueueExecutor::end_watch() {
  is_call_late_ = false;
  if (late_step_ != StepId{}) tell_late_step(late_step_ = StepId{});
}

Status QueueExecutor::health() {
  if (elsewhere_ != nullptr) elsewhere_->service();
  // The worker's end says more than the broken queue that follows from it.
  TRIREME_RETURN_IF_ERROR(check_workers());
  return has_failed_.load() ? failure_ : absl::OkStatus();
}

void QueueExecutor::collect_results() noexcept {
  ::pthread_setname_np(::pthread_self(),
                       ("eng" + std::to_string(options_.internal.engine_rank) + "/res").c_str());
  while (true) {
    const auto received = collector_->receive(Deadline::never());
    if (!received.ok()) return fail(received.status());  // Closed by stop(), or broken.
    const Status status = take_record(*received);
    collector_->release();
    if (!status.ok()) return fail(status);
  }
}

Status QueueExecutor::take_record(const shm::ShmCollector::Received& received) {
  auto result = wire::unpack<wire::StepResult>(received.record);
  if (!result.ok()) {
    return annotate(result.status(), "worker rank " + std::to_string(received.ring));
  }
  if (!result->error.empty()) {
    return error(StatusCode::kUnavailable, "worker rank %u: %s", received.ring, result->error);
  }
  if (result->step == StepId{}) {  // No step has this id: something else was asked for.
    if (result->expert_table && !told_tables_.push(*std::move(result->expert_table))) {
      return error(StatusCode::kDataLoss, "worker rank %u tells of its experts again and again",
                   received.ring);
    }
    calls_answered_[received.ring].fetch_add(1);
    bell_->ring();
    return absl::OkStatus();
  }
  if (result->expert_load) expert_loads_[received.ring] = *result->expert_load;
  const uint32_t output_rank = worker_count() - options_.parallel.tensor_parallel_size;
  if (gathering_) {
    TRIREME_ASSIGN_OR_RETURN(auto whole, gathering_->take(received.ring, *std::move(result)));
    if (!whole) return absl::OkStatus();
    result = *std::move(whole);
  } else if (received.ring != output_rank) {
    return absl::OkStatus();
  }
  if (result->expert_load) result->expert_load = sum_expert_loads(*result->expert_load);
  if (!results_.push(*std::move(result))) {
    return error(StatusCode::kDataLoss, "worker rank %u answers more steps than there were",
                 received.ring);
  }
  bell_->ring();
  return absl::OkStatus();
}

wire::ExpertLoad QueueExecutor::sum_expert_loads(const wire::ExpertLoad& of_output_rank) const {
  wire::ExpertLoad sum{.balancedness = of_output_rank.balancedness};
  for (const wire::ExpertLoad& load : expert_loads_) {
    sum.rows += load.rows;
    sum.moves += load.moves;
  }
  return sum;
}

void QueueExecutor::fail(const Status& why) noexcept {
  failure_ = why;
  has_failed_.store(true);
  bell_->ring();
}

void QueueExecutor::stop() noexcept {
  if (!is_started_) return;
  is_started_ = false;
  const Status end = health();
  buffer_.clear();
  wire::pack(wire::StopWorker{}, buffer_);
  if (!broadcast(Deadline(Instant{})).ok()) {
    log::debug("workers_not_told_to_stop", {});
  }
  elsewhere_ = nullptr;
  stop_workers(end);
  steps_->close();
  results_memory_->close();
  if (collector_thread_.joinable()) collector_thread_.join();
}

}  // namespace trireme::engine
