#include "engine_core/executor/uni.h"

#include <pthread.h>

#include <string>

#include "worker/comm/collective.h"
#include "worker/worker_loop.h"

namespace trireme::engine {

Status UniExecutor::start_workers(StopSignal&) {
  if (worker_count() != 1) {
    return error(StatusCode::kInvalidArgument,
                 "--distributed-executor-backend uni has one worker, but --tensor-parallel-size %u "
                 "x --pipeline-parallel-size %u are asked for: use mp",
                 options().parallel.tensor_parallel_size,
                 options().parallel.pipeline_parallel_size);
  }
  thread_ = std::thread([this] { run(); });
  return absl::OkStatus();
}

void UniExecutor::run() noexcept {
  const std::string name = "eng" + std::to_string(options().internal.engine_rank) + "/worker";
  ::pthread_setname_np(::pthread_self(), name.c_str());
  shm::ShmReceiver receiver(steps(), 0);
  shm::ShmSender sender(results(), 0);
  const auto load = [this] {
    return worker::Worker::load(options(), worker::WorkerPlace{},
                                std::make_unique<worker::SoloCollective>(),
                                [](std::string_view, double) {});
  };
  end_ = worker::run_worker(0, load, receiver, sender);
  has_ended_.store(true);
}

Status UniExecutor::check_workers() {
  if (!has_ended_.load()) return absl::OkStatus();
  const StatusCode code = end_.ok() ? StatusCode::kUnavailable : end_.code();
  return error(code, "the worker thread has ended: %s", std::string(end_.message()));
}

void UniExecutor::stop_workers(const Status&) noexcept {
  steps().close();
  if (thread_.joinable()) thread_.join();
}

}  // namespace trireme::engine
