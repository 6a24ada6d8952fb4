// A CudaDriver of GPUs that are not there. One at a time: its functions have no other state than
// `MadeUpDriver::now`.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/device/cuda_probe.h"

namespace trireme {

struct MadeUpDriver {
  int version = 13000;
  std::vector<CudaGpu> gpus;
  std::map<std::string, int> errors;  // What a function, by its name in CudaDriver, answers.
  std::size_t free_bytes = 0;
  std::vector<int> contexts;  // Of which GPUs they were retained.
  int pushed_count = 0;

  static inline MadeUpDriver* now = nullptr;

  [[nodiscard]] int error_of(const char* function) const {
    const auto found = errors.find(function);
    return found == errors.end() ? 0 : found->second;
  }
  [[nodiscard]] CudaDriver driver() {
    now = this;
    CudaDriver made;
    made.init = [](unsigned) { return now->error_of("init"); };
    made.version = [](int* out) {
      *out = now->version;
      return now->error_of("version");
    };
    made.error_text = [](int code, const char** text) {
      *text = "made up";
      return code == 999 ? 0 : 1;
    };
    made.device_count = [](int* count) {
      *count = static_cast<int>(now->gpus.size());
      return now->error_of("device_count");
    };
    made.device = [](int* device, int ordinal) {
      *device = 100 + ordinal;  // Not the ordinal itself: nobody should take it for that.
      return now->error_of("device");
    };
    made.device_name = [](char* name, int size, int device) {
      std::strncpy(name, gpu(device).name.c_str(), static_cast<std::size_t>(size));
      return now->error_of("device_name");
    };
    made.device_attribute = [](int* value, int attribute, int device) {
      const CudaCapability& capability = gpu(device).capability;
      *value = attribute == CudaDriver::kCapabilityMajor ? capability.major : capability.minor;
      return now->error_of("device_attribute");
    };
    made.device_bytes = [](std::size_t* bytes, int device) {
      *bytes = gpu(device).memory_bytes;
      return now->error_of("device_bytes");
    };
    made.retain_context = [](void** context, int device) {
      now->contexts.push_back(device - 100);
      *context = now;
      return now->error_of("retain_context");
    };
    made.push_context = [](void*) {
      const int code = now->error_of("push_context");
      if (code == 0) ++now->pushed_count;
      return code;
    };
    made.pop_context = [](void**) {
      --now->pushed_count;
      return 0;
    };
    made.memory = [](std::size_t* free, std::size_t* total) {
      *free = now->free_bytes;
      *total = 2 * now->free_bytes;
      return now->error_of("memory");
    };
    return made;
  }

 private:
  static const CudaGpu& gpu(int device) {
    return now->gpus[static_cast<std::size_t>(device - 100)];
  }
};

inline CudaGpu made_up_h100() {
  return {.name = "H100", .capability = {9, 0}, .memory_bytes = std::size_t{80} << 30};
}
inline CudaGpu made_up_a100() {
  return {.name = "A100", .capability = {8, 0}, .memory_bytes = std::size_t{40} << 30};
}
inline CudaGpu made_up_t4() {
  return {.name = "Tesla T4", .capability = {7, 5}, .memory_bytes = std::size_t{15} << 30};
}

}  // namespace trireme
