#include "common/device/cuda_driver.h"

#include <dlfcn.h>

#include <string>

namespace trireme {
namespace {

// The functions' names in the library; those with a number are the ones of the present ABI.
class Library {
 public:
  explicit Library(void* handle) : handle_(handle) {}

  template <typename Function>
  void find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    if (function == nullptr && missing_.empty()) missing_ = name;
  }
  [[nodiscard]] const std::string& missing() const { return missing_; }

 private:
  void* handle_;
  std::string missing_;
};

}  // namespace

StatusOr<CudaDriver> load_cuda_driver(const char* library) {
  void* const handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return error(StatusCode::kNotFound, "%s", ::dlerror());
  Library found(handle);
  CudaDriver driver;
  found.find("cuInit", driver.init);
  found.find("cuDriverGetVersion", driver.version);
  found.find("cuGetErrorString", driver.error_text);
  found.find("cuDeviceGetCount", driver.device_count);
  found.find("cuDeviceGet", driver.device);
  found.find("cuDeviceGetName", driver.device_name);
  found.find("cuDeviceGetAttribute", driver.device_attribute);
  found.find("cuDeviceTotalMem_v2", driver.device_bytes);
  found.find("cuDevicePrimaryCtxRetain", driver.retain_context);
  found.find("cuCtxPushCurrent_v2", driver.push_context);
  found.find("cuCtxPopCurrent_v2", driver.pop_context);
  found.find("cuMemGetInfo_v2", driver.memory);
  if (found.missing().empty()) return driver;
  return error(StatusCode::kFailedPrecondition, "%s has no %s", library, found.missing());
}

}  // namespace trireme
