// MpExecutor: a `worker` process per TP x PP rank. A worker that ends, however it does, is noticed
// by its pidfd at once and named with rank, pid and exit code or signal.
// Memory that workers share (queues, collectives, pipes) is memfd: it ends with the last process.
#pragma once

#include <string>
#include <vector>

#include "common/process/child_process.h"
#include "engine_core/executor/queue_executor.h"

namespace trireme::engine {

class MpExecutor final : public QueueExecutor {
 public:
  MpExecutor(const ServeOptions& options, std::vector<std::string> command_line)
      : QueueExecutor(options), command_line_(std::move(command_line)) {}
  ~MpExecutor() override { stop(); }

  [[nodiscard]] std::span<const int> watch_fds() const override { return pidfds_; }

 private:
  [[nodiscard]] Status start_workers() override;
  [[nodiscard]] Status check_workers() override;
  void stop_workers(bool is_broken) noexcept override;

  std::vector<std::string> command_line_;
  std::vector<process::ChildProcess> workers_;  // By rank.
  std::vector<int> pidfds_;
};

}  // namespace trireme::engine
