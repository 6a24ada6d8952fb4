#include "engine_core/kernel_set.h"

#include "worker/kernels/cpu/kernel_choice.h"

namespace trireme::engine {

void append_kernel_set(const ServeOptions& options, std::vector<wire::ConfigEntry>& config) {
  if (options.parallel.executor == trireme::Executor::kSim) return;
  const DeviceKind device = options.worker.device;
  config.push_back({"device", device == DeviceKind::kCuda ? "cuda" : "cpu"});
  if (device == DeviceKind::kCuda) return;
  const auto kernels = worker::cpu::find_kernels(options.worker.cpu_kernels);
  if (kernels.ok()) config.push_back({"cpu-kernels", std::string((*kernels)->name)});
}

}  // namespace trireme::engine
