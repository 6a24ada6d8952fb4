#include "common/device/device_choice.h"

#include <cstdlib>

#include "common/options/local_workers.h"
#include "common/process/sibling_binary.h"

namespace trireme {
namespace {

bool asks_for_driver(const ServeOptions& options) {
  const DeviceKind asked = options.worker.device;
  return asked == DeviceKind::kCuda ||
         (asked == DeviceKind::kAuto && has_worker_processes(options.parallel.executor));
}

}  // namespace

StatusOr<DeviceChoice> decide_device(const ServeOptions& options, const CudaMachine& machine,
                                     const CudaNeeds& needs) {
  const DeviceKind asked = options.worker.device;
  if (!asks_for_driver(options)) return DeviceChoice{.device = DeviceKind::kCpu};
  const auto obstacle = find_obstacle(machine, needs);
  if (asked == DeviceKind::kCuda) {
    if (!obstacle) return DeviceChoice{.device = DeviceKind::kCuda};
    return error(obstacle->code, "--device cuda: %s; %s", obstacle->reason, obstacle->remedy);
  }
  if (obstacle) {
    return DeviceChoice{.device = DeviceKind::kCpu,
                        .why = absl::StrFormat("--device auto: cpu, %s", obstacle->reason)};
  }
  return DeviceChoice{
      .device = DeviceKind::kCuda,
      .why = absl::StrFormat("--device auto: cuda, %u workers on %u visible GPUs (%s)",
                             needs.group_of_worker.size(), machine.gpus.size(),
                             machine.gpus.front().name)};
}

StatusOr<DeviceChoice> choose_device(const ServeOptions& options) {
  if (!asks_for_driver(options)) return decide_device(options, {}, {});
  return decide_device(options, probe_cuda(), cuda_needs(options));
}

CudaNeeds cuda_needs(const ServeOptions& options) {
  CudaNeeds needs{
      .has_program = process::find_sibling_binary(worker_program(DeviceKind::kCuda)).ok(),
      .runtime_version = TRIREME_CUDA_RUNTIME_VERSION,
      .group_of_worker = local_groups(options)};
  if (const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    needs.visible_devices = visible;
  }
  return needs;
}

const char* name_of(DeviceKind device) {
  switch (device) {
    case DeviceKind::kAuto:
      return "auto";
    case DeviceKind::kCpu:
      return "cpu";
    case DeviceKind::kCuda:
      return "cuda";
  }
  return "unknown";
}

std::string_view worker_program(DeviceKind device) {
  return device == DeviceKind::kCuda ? "worker-cuda" : "worker";
}

}  // namespace trireme
