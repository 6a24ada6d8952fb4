// What the workers of this node compute on: --device, decided once, by who starts the node's
// processes (the launcher, a headless node's agent, or a rank that mpirun started), and told to all
// of them as --device cpu or cuda:
//
//   cpu   as asked
//   cuda  where every worker of this node has a GPU that it can use; else an error with the reason
//   auto  cuda where that is so and ranks have worker processes, else cpu; never an error
//
// decide_device() is pure; choose_device() looks at the machine. Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "common/device/cuda_probe.h"
#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

struct DeviceChoice {
  DeviceKind device = DeviceKind::kCpu;
  std::string why;  // As a person reads it; empty where it was asked for.
};

[[nodiscard]] StatusOr<DeviceChoice> decide_device(const ServeOptions& options,
                                                   const CudaMachine& machine,
                                                   const CudaNeeds& needs);

// Looks for a driver where the answer depends on it: microseconds where there is none.
[[nodiscard]] StatusOr<DeviceChoice> choose_device(const ServeOptions& options);

// What the workers of `options` ask of this machine.
[[nodiscard]] CudaNeeds cuda_needs(const ServeOptions& options);

// "auto", "cpu", "cuda".
[[nodiscard]] const char* name_of(DeviceKind device);

// The program of a worker that computes on it; kAuto: nobody chose, the CPU.
[[nodiscard]] std::string_view worker_program(DeviceKind device);

}  // namespace trireme
