// UniExecutor: one worker on a thread of this process (`eng<rank>/worker`), for debugging, tests
// and one-device engines. The same queues and messages as mp, so that steps run beside the main
// loop all the same. It cannot outlive a crash of its worker.
#pragma once

#include <atomic>
#include <thread>

#include "engine_core/executor/queue_executor.h"

namespace trireme::engine {

class UniExecutor final : public QueueExecutor {
 public:
  explicit UniExecutor(const ServeOptions& options) : QueueExecutor(options, 1) {}
  ~UniExecutor() override { stop(); }

 private:
  [[nodiscard]] Status start_workers(StopSignal& stop) override;
  [[nodiscard]] Status check_workers() override;
  void stop_workers(const Status& health) noexcept override;
  void run() noexcept;

  std::thread thread_;
  std::atomic<bool> has_ended_{false};
  Status end_;  // Written before has_ended_.
};

}  // namespace trireme::engine
