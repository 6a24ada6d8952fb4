#include "common/device/cuda_probe.h"

namespace trireme {
namespace {

constexpr int kNameSize = 256;

// "cuInit: error 999 (unknown error)".
std::string failure_text(const CudaDriver& driver, const char* function, int code) {
  const char* text = nullptr;
  const bool is_known = driver.error_text(code, &text) == 0 && text != nullptr;
  return absl::StrFormat("%s: error %d (%s)", function, code, is_known ? text : "unknown to it");
}

std::string capability_text(const CudaCapability& capability) {
  return absl::StrFormat("%d.%d", capability.major, capability.minor);
}

std::string gpu_text(const CudaMachine& machine, std::size_t ordinal) {
  const CudaGpu& gpu = machine.gpus[ordinal];
  return absl::StrFormat("GPU %u (%s, compute capability %s)", ordinal, gpu.name,
                         capability_text(gpu.capability));
}

// The code of the call that failed, and its name in `function`; 0: all is known of this GPU.
int read_gpu(const CudaDriver& driver, int ordinal, CudaGpu& gpu, const char*& function) {
  int device = 0;
  function = "cuDeviceGet";
  if (const int code = driver.device(&device, ordinal); code != 0) return code;
  char name[kNameSize] = {};
  function = "cuDeviceGetName";
  if (const int code = driver.device_name(name, kNameSize - 1, device); code != 0) return code;
  gpu.name = name;
  CudaCapability& capability = gpu.capability;
  function = "cuDeviceGetAttribute";
  int code = driver.device_attribute(&capability.major, CudaDriver::kCapabilityMajor, device);
  if (code != 0) return code;
  code = driver.device_attribute(&capability.minor, CudaDriver::kCapabilityMinor, device);
  if (code != 0) return code;
  std::size_t bytes = 0;
  function = "cuDeviceTotalMem";
  code = driver.device_bytes(&bytes, device);
  gpu.memory_bytes = bytes;
  return code;
}

std::string visible_text(const CudaNeeds& needs) {
  if (!needs.visible_devices) return "CUDA_VISIBLE_DEVICES is not set";
  return absl::StrFormat("CUDA_VISIBLE_DEVICES is \"%s\"", *needs.visible_devices);
}

// A runtime runs on every driver of its major version: what is newer in it is not used. Code for
// GPUs younger than the build is made by the driver from PTX, which then must not be newer.
bool is_too_old(int driver_version, int runtime_version) {
  return driver_version / 1000 < runtime_version / 1000;
}

std::optional<CudaObstacle> find_unfit_gpu(const CudaMachine& machine, const CudaNeeds& needs) {
  const char* const choose = "choose others by CUDA_VISIBLE_DEVICES, or use --device cpu";
  const std::vector<uint32_t>& groups = needs.group_of_worker;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (machine.gpus[i].capability < kCudaCapabilityMin) {
      return CudaObstacle{
          .reason = absl::StrFormat("%s is too old, %s or later is needed", gpu_text(machine, i),
                                    capability_text(kCudaCapabilityMin)),
          .remedy = choose};
    }
  }
  for (std::size_t i = 1; i < groups.size(); ++i) {
    const CudaGpu& before = machine.gpus[i - 1];
    const CudaGpu& gpu = machine.gpus[i];
    const bool is_same = before.name == gpu.name && before.capability == gpu.capability;
    if (is_same || groups[i - 1] != groups[i]) continue;
    return CudaObstacle{
        .reason = absl::StrFormat("%s and %s are not of a kind, but in one tensor-parallel group",
                                  gpu_text(machine, i - 1), gpu_text(machine, i)),
        .remedy = choose};
  }
  return std::nullopt;
}

}  // namespace

CudaMachine probe_cuda(const CudaDriver& driver) {
  CudaMachine machine{.has_driver = true};
  if (driver.version(&machine.driver_version) != 0) machine.driver_version = 0;
  int code = driver.init(0);
  if (code == CudaDriver::kNoDevice) return machine;
  if (code != 0) return machine.failure = failure_text(driver, "cuInit", code), machine;
  int count = 0;
  code = driver.device_count(&count);
  if (code == CudaDriver::kNoDevice) return machine;
  if (code != 0) return machine.failure = failure_text(driver, "cuDeviceGetCount", code), machine;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CudaGpu gpu;
    const char* function = nullptr;
    code = read_gpu(driver, ordinal, gpu, function);
    if (code != 0) {
      machine.failure =
          absl::StrFormat("GPU %d: %s", ordinal, failure_text(driver, function, code));
      return machine;
    }
    machine.gpus.push_back(std::move(gpu));
  }
  return machine;
}

CudaMachine probe_cuda() {
  const StatusOr<CudaDriver> driver = load_cuda_driver();
  if (driver.ok()) return probe_cuda(*driver);
  if (driver.status().code() == StatusCode::kNotFound) return {};
  return {.has_driver = true, .failure = std::string(driver.status().message())};
}

std::optional<CudaObstacle> find_obstacle(const CudaMachine& machine, const CudaNeeds& needs) {
  if (!machine.has_driver) {
    return CudaObstacle{
        .code = StatusCode::kNotFound,
        .reason = absl::StrFormat("no NVIDIA driver (%s) on this machine", kCudaDriverLibrary),
        .remedy = "install the driver, or use --device cpu"};
  }
  if (!needs.has_program) {
    return CudaObstacle{.code = StatusCode::kNotFound,
                        .reason = "worker-cuda is not beside the other programs",
                        .remedy = "build it by ./trireme build --cuda, or use --device cpu"};
  }
  if (machine.driver_version != 0 && is_too_old(machine.driver_version, needs.runtime_version)) {
    const std::string built_with = cuda_version_text(needs.runtime_version);
    return CudaObstacle{
        .reason = absl::StrFormat("the NVIDIA driver runs CUDA up to %s, worker-cuda was built "
                                  "with %s",
                                  cuda_version_text(machine.driver_version), built_with),
        .remedy = absl::StrFormat("install a driver for CUDA %s or later, or use --device cpu",
                                  built_with)};
  }
  if (!machine.failure.empty()) {
    return CudaObstacle{.reason = "the NVIDIA driver fails, " + machine.failure,
                        .remedy = "see whether nvidia-smi shows the GPUs, or use --device cpu"};
  }
  if (machine.gpus.empty()) {
    return CudaObstacle{.code = StatusCode::kNotFound,
                        .reason = absl::StrFormat("no GPU is visible (%s)", visible_text(needs)),
                        .remedy = "make one visible, or use --device cpu"};
  }
  const std::size_t wanted = needs.group_of_worker.size();
  if (machine.gpus.size() < wanted) {
    return CudaObstacle{
        .reason = absl::StrFormat("this node has %u workers, each for a GPU of its own, and %u "
                                  "visible GPUs (%s)",
                                  wanted, machine.gpus.size(), visible_text(needs)),
        .remedy = "make more visible or take fewer workers, or use --device cpu"};
  }
  return find_unfit_gpu(machine, needs);
}

std::string cuda_version_text(int version) {
  return absl::StrFormat("%d.%d", version / 1000, version % 1000 / 10);
}

StatusOr<CudaMemory> cuda_memory(const CudaDriver& driver, int ordinal) {
  const auto failed = [&](const char* function, int code) {
    return error(StatusCode::kFailedPrecondition, "GPU %d: %s", ordinal,
                 failure_text(driver, function, code));
  };
  int device = 0;
  int code = driver.device(&device, ordinal);
  if (code != 0) return failed("cuDeviceGet", code);
  void* context = nullptr;
  code = driver.retain_context(&context, device);
  if (code != 0) return failed("cuDevicePrimaryCtxRetain", code);
  code = driver.push_context(context);
  if (code != 0) return failed("cuCtxPushCurrent", code);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  code = driver.memory(&free_bytes, &total_bytes);
  (void)driver.pop_context(&context);
  if (code != 0) return failed("cuMemGetInfo", code);
  return CudaMemory{.free_bytes = free_bytes, .total_bytes = total_bytes};
}

}  // namespace trireme
