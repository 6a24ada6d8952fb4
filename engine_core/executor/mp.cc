#include "engine_core/executor/mp.h"

#include <unistd.h>

#include <utility>

#include "common/device/device_choice.h"
#include "common/log.h"
#include "common/process/stack_report.h"
#include "worker/comm/shm_mesh.h"

namespace trireme::engine {
namespace {

constexpr Duration kStopMax = std::chrono::seconds(2);

}  // namespace

MpExecutor::MpExecutor(const ServeOptions& options, std::vector<std::string> command_line)
    : QueueExecutor(options, worker_span(options).ranks_per_place),
      command_line_(std::move(command_line)),
      span_(worker_span(options)) {}

Status MpExecutor::start_workers(StopSignal& stop) {
  LocalWorkersConfig config{.span = span_,
                            .program = worker_program(options().worker.device),
                            .engine = {.steps_fd = steps().fd(), .results_fd = results().fd()},
                            .command_line = command_line_,
                            .weight_fds = options().internal.weight_image_fds,
                            .mesh_fds = options().internal.expert_mesh_fds};
  for (const int fd : config.mesh_fds) {
    TRIREME_ASSIGN_OR_RETURN(auto mesh, shm::Mapping::attach(UniqueFd(::dup(fd))));
    meshes_.push_back(std::move(mesh));
  }
  const std::vector<Listener> none;
  const std::vector<Listener>* listeners = &none;
  if (span_.place_count() > 1) {
    TRIREME_ASSIGN_OR_RETURN(remote_, RemoteWorkers::start(options(), results(), bell()));
    TRIREME_RETURN_IF_ERROR(remote_->wait_until_formed(stop));
    config.group = remote_->plan().group.value;
    config.elsewhere = remote_->plan().listeners;
    listeners = &remote_->listeners();
    send_steps_also_to(&remote_->steps());
  }
  const Status started = local_.start(config, *listeners);
  if (remote_ != nullptr) remote_->close_listeners();
  TRIREME_RETURN_IF_ERROR(started);
  for (uint32_t rank = 0; rank < local_.pidfds().size(); ++rank) {
    step_sender().watch_reader(rank, local_.pidfds()[rank]);
  }
  return absl::OkStatus();
}

std::string MpExecutor::keep_stacks(uint32_t rank) noexcept {
  const std::vector<int> pids = local_.pids();
  const uint32_t index = rank - local_.first_rank();
  return index < pids.size() ? process::log_stacks(static_cast<uint32_t>(pids[index])) : "";
}

void MpExecutor::kill_worker(uint32_t rank) noexcept { local_.kill(rank); }

void MpExecutor::abandon_waves(WaveId below) {
  const uint32_t first = options().internal.engine_rank * span_.tp_size;
  for (const shm::Mapping& mesh : meshes_) {
    const Status status = worker::ShmMesh::abandon(mesh, first, span_.tp_size, below);
    if (!status.ok()) log::error("wave_not_left", {{"reason", std::string(status.message())}});
  }
}

void MpExecutor::on_started() {
  if (remote_ != nullptr) remote_->set_serving();
}

void MpExecutor::tell_late_step(StepId step) {
  if (remote_ != nullptr) remote_->set_late_step(step);
}

Status MpExecutor::check_workers() {
  TRIREME_RETURN_IF_ERROR(local_.check());
  return remote_ == nullptr ? absl::OkStatus() : remote_->health();
}

void MpExecutor::stop_workers(const Status& health) noexcept {
  local_.stop(Deadline::after(health.ok() ? kStopMax : Duration::zero()));
  if (remote_ == nullptr) return;
  remote_->stop(health.ok() ? Status(StatusCode::kCancelled, "the engine was stopped") : health);
  remote_.reset();
}

}  // namespace trireme::engine
