// MpExecutor: a `worker` process per TP x PP rank. Those of this node are its children (a worker
// that ends is noticed by its pidfd at once, and named); those of other nodes are joined over the
// network (engine_core/span/).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine_core/executor/queue_executor.h"
#include "engine_core/span/local_workers.h"
#include "engine_core/span/remote_workers.h"
#include "engine_core/span/worker_span.h"

namespace trireme::engine {

class MpExecutor final : public QueueExecutor {
 public:
  MpExecutor(const ServeOptions& options, std::vector<std::string> command_line);
  ~MpExecutor() override { stop(); }

  [[nodiscard]] std::span<const int> watch_fds() const override { return local_.pidfds(); }
  [[nodiscard]] std::string keep_stacks(uint32_t rank) noexcept override;
  void kill_worker(uint32_t rank) noexcept override;
  void abandon_waves(WaveId below) override;

 private:
  [[nodiscard]] Status start_workers(StopSignal& stop) override;
  void on_started() override;
  void tell_late_step(StepId step) override;
  [[nodiscard]] Status check_workers() override;
  void stop_workers(const Status& health) noexcept override;

  std::vector<std::string> command_line_;
  WorkerSpan span_;
  LocalWorkers local_;
  std::vector<shm::Mapping> meshes_;       // Of experts, by stage; none without expert parallelism.
  std::unique_ptr<RemoteWorkers> remote_;  // Null: all workers are here.
};

}  // namespace trireme::engine
