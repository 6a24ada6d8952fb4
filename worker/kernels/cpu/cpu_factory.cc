#include "worker/kernels/cpu/cpu_factory.h"

#include <string>

#include "common/log.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/memory_budget.h"

namespace trireme::worker::cpu {

Status CpuFactory::open(const ServeOptions& options, const LocalWorkers&) {
  TRIREME_ASSIGN_OR_RETURN(const KernelTable* const kernels,
                           find_kernels(options.worker.cpu_kernels));
  const std::string_view notice = notice_of(*kernels);
  if (notice.empty()) {
    log::info("cpu_kernels", {{"set", kernels->name}});
  } else {
    log::warning("cpu_kernels", {{"set", kernels->name}, {"note", notice}});
  }
  return absl::OkStatus();
}

StatusOr<DeviceMemory> CpuFactory::memory() const {
  return DeviceMemory{.available_bytes = available_memory("")};
}

StatusOr<std::unique_ptr<Device>> CpuFactory::make(const DeviceRequest& request) const {
  TRIREME_ASSIGN_OR_RETURN(const KernelTable* const kernels, find_kernels(request.cpu_kernels));
  return std::make_unique<CpuDevice>(request.element, request.pool, request.tensor_parallel,
                                     *kernels, request.on_load, request.weights, request.experts,
                                     request.workers_of_node);
}

}  // namespace trireme::worker::cpu
