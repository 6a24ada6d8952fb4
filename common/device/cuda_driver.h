// CudaDriver: the functions of the NVIDIA driver (libcuda.so.1) that are asked which GPUs there
// are. They are looked up when a program wants to know, so no build needs CUDA and no program needs
// a driver to start. A test makes a driver up.
//
// All answer 0, or the driver's error code. Threads: any.
#pragma once

#include <cstddef>

#include "common/status.h"

namespace trireme {

struct CudaDriver {
  static constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  static constexpr int kCapabilityMajor = 75;
  static constexpr int kCapabilityMinor = 76;

  int (*init)(unsigned flags) = nullptr;   // First of all, but for version().
  int (*version)(int* version) = nullptr;  // 13000: of CUDA 13.0.
  int (*error_text)(int error, const char** text) = nullptr;
  int (*device_count)(int* count) = nullptr;
  int (*device)(int* device, int ordinal) = nullptr;
  int (*device_name)(char* name, int size, int device) = nullptr;
  int (*device_attribute)(int* value, int attribute, int device) = nullptr;
  int (*device_bytes)(std::size_t* bytes, int device) = nullptr;
  int (*retain_context)(void** context, int device) = nullptr;
  int (*push_context)(void* context) = nullptr;
  int (*pop_context)(void** context) = nullptr;
  int (*memory)(std::size_t* free_bytes, std::size_t* total_bytes) = nullptr;  // Of a context.
};

inline constexpr const char* kCudaDriverLibrary = "libcuda.so.1";

// kNotFound where there is no such library; kFailedPrecondition, and which, where it lacks one of
// the functions. The library stays loaded.
[[nodiscard]] StatusOr<CudaDriver> load_cuda_driver(const char* library = kCudaDriverLibrary);

}  // namespace trireme
