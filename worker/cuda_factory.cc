#include "worker/cuda_factory.h"

#include "common/device/device_choice.h"
#include "common/log.h"

namespace trireme::worker {

Status CudaFactory::open(const ServeOptions& options, const LocalWorkers& workers) {
  const StatusOr<CudaDriver> driver = load_driver_();
  CudaMachine machine;
  if (driver.ok()) {
    machine = probe_cuda(*driver);
  } else if (driver.status().code() != StatusCode::kNotFound) {
    return annotate(driver.status(), "--device cuda");
  }
  CudaNeeds needs = cuda_needs(options);
  needs.has_program = true;  // It is this one.
  if (const auto obstacle = find_obstacle(machine, needs)) {
    return error(obstacle->code, "--device cuda: %s; %s", obstacle->reason, obstacle->remedy);
  }
  if (workers.index >= machine.gpus.size()) {
    return error(StatusCode::kFailedPrecondition,
                 "--device cuda: worker %u of this node has no GPU, %u are visible", workers.index,
                 machine.gpus.size());
  }
  driver_ = *driver;
  ordinal_ = static_cast<int>(workers.index);
  const CudaGpu& gpu = machine.gpus[workers.index];
  log::info("gpu",
            {{"ordinal", ordinal_},
             {"name", gpu.name},
             {"capability", absl::StrFormat("%d.%d", gpu.capability.major, gpu.capability.minor)},
             {"bytes", gpu.memory_bytes},
             {"driver", cuda_version_text(machine.driver_version)}});
  return absl::OkStatus();
}

StatusOr<DeviceMemory> CudaFactory::memory() const {
  TRIREME_ASSIGN_OR_RETURN(const CudaMemory memory, cuda_memory(*driver_, ordinal_));
  return DeviceMemory{.available_bytes = memory.free_bytes, .is_own = true, .keeps_float8 = true};
}

StatusOr<std::unique_ptr<Device>> CudaFactory::make(const DeviceRequest& request) const {
  if (request.experts != nullptr) {
    return error(StatusCode::kInvalidArgument,
                 "--enable-expert-parallel: only the CPU has experts of other ranks; leave it out, "
                 "or use --device cpu");
  }
  return make_device_(request, ordinal_);
}

}  // namespace trireme::worker
