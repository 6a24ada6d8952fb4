// QueueExecutor: what mp and uni have in common: workers behind shared-memory queues.
//
//   main thread ── StepInput ──▶ steps (one ring, every worker reads) ──▶ workers
//   main thread ◀── ring ◀── eng<rank>/res ◀── results (a ring per worker) ◀── workers
//
// Workers at other places (nodes) get their steps by another sender beside the ring; their answers
// come into the same result rings. Beside its ring a worker of this place keeps its sign of life,
// which is looked at when a step is late. Every worker answers every step; the tokens are those of
// the first TP rank of the last stage, an error of any worker is the engine's, and so is what any
// of them lost of its store of KV blocks (result_gathering.h), and what their experts computed; of
// workers that end a step after that one, this is of the step before. A collector thread waits for
// the answers, because the main thread waits for descriptors. Derived classes start, watch and stop
// the workers. Threads: the engine's main thread, and the collector, which only touches the
// results.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/shm/shm_queue.h"
#include "engine_core/executor.h"
#include "engine_core/executor/result_gathering.h"
#include "engine_core/spsc_ring.h"
#include "engine_core/worker_watch.h"
#include "proto/messages.h"

namespace trireme::engine {

class QueueExecutor : public Executor {
 public:
  [[nodiscard]] StatusOr<KvCapacity> start(Bell& bell, StopSignal& stop) final;
  [[nodiscard]] Status submit(const wire::StepInput& step, Instant now) final;
  [[nodiscard]] Status join_wave(const wire::JoinWave& wave) final;
  [[nodiscard]] Status release_memory() final;
  [[nodiscard]] bool is_memory_released() const final {
    return calls_answered_by_all() >= last_release_;
  }
  [[nodiscard]] Status check_memory() const final;
  [[nodiscard]] Status ask_expert_tables() final;
  [[nodiscard]] bool has_expert_tables() const final { return !told_tables_.is_empty(); }
  [[nodiscard]] std::optional<std::vector<wire::ExpertTable>> take_expert_tables() final;
  [[nodiscard]] StatusOr<bool> try_collect(wire::StepResult& result, Instant now) final;
  [[nodiscard]] uint32_t steps_in_flight_max() const final;
  [[nodiscard]] bool has_result() const final { return !results_.is_empty() || has_failed_.load(); }
  [[nodiscard]] Status health() final;
  [[nodiscard]] Instant next_result_at() const final;
  [[nodiscard]] std::optional<wire::ShmStats> shm_stats() const final;
  [[nodiscard]] LateStep watch_step(StepId late, Instant now) final;
  [[nodiscard]] bool owes_answers() const final { return calls_answered_by_all() < calls_asked_; }
  [[nodiscard]] LateStep watch_call(Instant now) final;
  void end_watch() final;
  void stop() noexcept final;

 protected:
  // `local_count` workers read the ring of steps; the others are elsewhere.
  QueueExecutor(const ServeOptions& options, uint32_t local_count);

  [[nodiscard]] uint32_t worker_count() const;
  [[nodiscard]] Bell& bell() { return *bell_; }
  [[nodiscard]] const ServeOptions& options() const { return options_; }
  [[nodiscard]] const shm::QueueMemory& steps() const { return *steps_; }
  [[nodiscard]] const shm::QueueMemory& results() const { return *results_memory_; }
  [[nodiscard]] shm::ShmSender& step_sender() { return *sender_; }

  [[nodiscard]] virtual Status start_workers(StopSignal& stop) = 0;
  // From start_workers(), where there are workers elsewhere: lives until stop_workers().
  void send_steps_also_to(MessageSender* sender) { elsewhere_ = sender; }
  virtual void on_started() {}
  // This step is late (0: no longer), which those who watch workers elsewhere do not see.
  virtual void tell_late_step(StepId) {}
  // Not OK once a worker has ended: says which, and how.
  [[nodiscard]] virtual Status check_workers() = 0;
  // They have been told to stop. `health` not OK: one has ended or failed, and those that wait for
  // it will not hear. Returns when every worker has ended.
  virtual void stop_workers(const Status& health) noexcept = 0;

 private:
  [[nodiscard]] Status make_queues();
  [[nodiscard]] Status broadcast(Deadline deadline);
  [[nodiscard]] StatusOr<std::vector<wire::WorkerReady>> wait_for_workers(StopSignal& stop);
  [[nodiscard]] StatusOr<KvCapacity> size_kv(const std::vector<wire::WorkerReady>& ready,
                                             uint32_t model_tokens_max);
  [[nodiscard]] Status size_store(const std::vector<wire::WorkerReady>& ready,
                                  KvCapacity& capacity);
  [[nodiscard]] Status allocate_kv(const KvCapacity& capacity, StopSignal& stop);
  // The next record of a worker while starting; kCancelled, or why none can come.
  [[nodiscard]] StatusOr<shm::ShmCollector::Received> await_record(StopSignal& stop);
  void collect_results() noexcept;
  [[nodiscard]] Status take_record(const shm::ShmCollector::Received& received);
  [[nodiscard]] Status broadcast_call();
  [[nodiscard]] uint64_t calls_answered_by_all() const;
  [[nodiscard]] LateStep look_at_workers(StepId late, Instant now);
  // Of all workers, as far as they have told.
  [[nodiscard]] wire::ExpertLoad sum_expert_loads(const wire::ExpertLoad& of_output_rank) const;
  void fail(const Status& why) noexcept;

  ServeOptions options_;
  uint32_t local_count_;
  std::optional<shm::QueueMemory> steps_;
  std::optional<shm::QueueMemory> results_memory_;
  std::optional<shm::ShmSender> sender_;
  MessageSender* elsewhere_ = nullptr;
  std::optional<shm::ShmCollector> collector_;  // The collector thread's once that runs.
  wire::Buffer buffer_;
  Bell* bell_ = nullptr;
  SpscRing<wire::StepResult> results_{16};
  uint64_t calls_asked_ = 0;                           // Of every worker, in order.
  uint64_t last_release_ = 0;                          // Of them.
  std::vector<std::atomic<uint64_t>> calls_answered_;  // By worker.
  uint64_t kv_bytes_ = 0;                              // Of the worker that has most.
  std::atomic<bool> has_failed_{false};
  Status failure_;                                             // Written before has_failed_.
  std::optional<ResultGathering> gathering_;                   // Where several workers have stores.
  SpscRing<wire::ExpertTable> told_tables_{shm::kWaitersMax};  // By the workers, as they come.
  std::vector<wire::ExpertTable> expert_tables_;
  std::vector<wire::ExpertLoad> expert_loads_;  // By worker, as last told.
  std::thread collector_thread_;
  std::vector<uint32_t> worker_pids_;
  WorkerWatch watch_;
  StepId late_step_;  // 0: none is.
  bool is_call_late_ = false;
  bool is_started_ = false;
  uint64_t steps_sent_ = 0;  // To every worker, since they were started.
  int steps_uncollected_ = 0;
};

}  // namespace trireme::engine
