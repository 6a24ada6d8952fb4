// CpuFactory: makes CpuDevices, whose memory is the machine's.
#pragma once

#include "worker/device_factory.h"

namespace trireme::worker::cpu {

class CpuFactory final : public DeviceFactory {
 public:
  // kInvalidArgument: this CPU does not run what --cpu-kernels names.
  [[nodiscard]] Status open(const ServeOptions& options, const LocalWorkers& workers) override;
  [[nodiscard]] StatusOr<DeviceMemory> memory() const override;
  [[nodiscard]] StatusOr<std::unique_ptr<Device>> make(const DeviceRequest& request) const override;
};

}  // namespace trireme::worker::cpu
