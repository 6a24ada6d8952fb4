// CudaFactory: makes the devices of one GPU, and asks its driver for the memory there. It has no
// CUDA in it, so that it is tested where there is none: what makes a device, and what loads the
// driver, are passed in (cuda_main.cc).
//
// A worker computes on the GPU whose ordinal is its number among the workers of its node; ordinals
// are those that CUDA_VISIBLE_DEVICES leaves.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "common/device/cuda_probe.h"
#include "worker/device_factory.h"

namespace trireme::worker {

class CudaFactory final : public DeviceFactory {
 public:
  using LoadDriver = std::function<StatusOr<CudaDriver>()>;
  using MakeDevice =
      std::function<StatusOr<std::unique_ptr<Device>>(const DeviceRequest& request, int ordinal)>;

  CudaFactory(LoadDriver load_driver, MakeDevice make_device)
      : load_driver_(std::move(load_driver)), make_device_(std::move(make_device)) {}

  // What keeps this worker off its GPU is as --device cuda says it (common/device).
  [[nodiscard]] Status open(const ServeOptions& options, const LocalWorkers& workers) override;
  [[nodiscard]] StatusOr<DeviceMemory> memory() const override;
  // kInvalidArgument for what is of the CPU alone: experts divided over ranks.
  [[nodiscard]] StatusOr<std::unique_ptr<Device>> make(const DeviceRequest& request) const override;

 private:
  LoadDriver load_driver_;
  MakeDevice make_device_;
  std::optional<CudaDriver> driver_;  // Since open().
  int ordinal_ = 0;
};

}  // namespace trireme::worker
