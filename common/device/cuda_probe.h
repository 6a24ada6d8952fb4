// What the NVIDIA driver of this machine says of its GPUs, and whether workers can compute on them.
//
//   driver ── probe_cuda() ──▶ CudaMachine ── find_obstacle(machine, needs) ──▶ none, or why not
//
// Pure but for the driver's own functions, which a test makes up. The first call to a real driver
// takes it tenths of a second. Threads: any.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/device/cuda_driver.h"
#include "common/status.h"

namespace trireme {

struct CudaCapability {
  int major = 0;
  int minor = 0;
  friend auto operator<=>(const CudaCapability&, const CudaCapability&) = default;
};
// bf16 products and asynchronous copies, which the kernels are made of, begin there.
inline constexpr CudaCapability kCudaCapabilityMin = {8, 0};

struct CudaGpu {
  std::string name;
  CudaCapability capability;
  uint64_t memory_bytes = 0;  // Free or not.
};

struct CudaMachine {
  bool has_driver = false;
  int driver_version = 0;     // 13000: the newest CUDA that it runs is 13.0; 0: not told.
  std::string failure;        // Not empty: what the driver answers instead of telling its GPUs.
  std::vector<CudaGpu> gpus;  // By ordinal: those that CUDA_VISIBLE_DEVICES leaves.
};

// Of a driver that was found.
[[nodiscard]] CudaMachine probe_cuda(const CudaDriver& driver);
// load_cuda_driver(), then its GPUs; without a driver a machine without one.
[[nodiscard]] CudaMachine probe_cuda();

struct CudaNeeds {
  bool has_program = false;                    // worker-cuda is beside the other programs.
  int runtime_version = 0;                     // 13000: of the CUDA 13.0 that it was built with.
  std::optional<std::string> visible_devices;  // CUDA_VISIBLE_DEVICES; none: it is not set.
  // Of each worker of this node its tensor-parallel group (common/options/local_workers.h): worker
  // i computes on GPU i.
  std::vector<uint32_t> group_of_worker;
};

// Why workers cannot compute on this machine's GPUs, and what to do. Of several reasons the first
// that a person has to mend.
struct CudaObstacle {
  StatusCode code = StatusCode::kFailedPrecondition;
  std::string reason;
  std::string remedy;
};
[[nodiscard]] std::optional<CudaObstacle> find_obstacle(const CudaMachine& machine,
                                                        const CudaNeeds& needs);

// "12.8" of 12080.
[[nodiscard]] std::string cuda_version_text(int version);

struct CudaMemory {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
// Of one GPU, now. Its primary context is made and stays for this process: the CUDA runtime uses
// the same one, and it takes some hundred MB there, which is why only workers ask.
[[nodiscard]] StatusOr<CudaMemory> cuda_memory(const CudaDriver& driver, int ordinal);

}  // namespace trireme
