// Goal: what a driver answers is read as it is, whatever fails, and each thing that keeps workers
// off the GPUs is one line that says what to do. Drivers are made up: there need be none here.
#include "common/device/cuda_probe.h"

#include <gtest/gtest.h>

#include <string>

#include "common/device/made_up_driver_for_test.h"

namespace trireme {
namespace {

CudaNeeds needs_of(std::vector<uint32_t> groups) {
  return {.has_program = true, .runtime_version = 13000, .group_of_worker = std::move(groups)};
}

CudaMachine machine_of(std::vector<CudaGpu> gpus) {
  return {.has_driver = true, .driver_version = 13000, .gpus = std::move(gpus)};
}

std::string obstacle(const CudaMachine& machine, const CudaNeeds& needs = needs_of({0})) {
  const auto found = find_obstacle(machine, needs);
  return found ? found->reason + "; " + found->remedy : "none";
}

TEST(CudaProbe, gpus_are_as_the_driver_tells_them) {
  MadeUpDriver made{.version = 12080, .gpus = {made_up_h100(), made_up_a100()}};
  const CudaMachine machine = probe_cuda(made.driver());
  EXPECT_TRUE(machine.has_driver);
  EXPECT_EQ(machine.driver_version, 12080);
  EXPECT_EQ(machine.failure, "");
  ASSERT_EQ(machine.gpus.size(), 2u);
  EXPECT_EQ(machine.gpus[0].name, "H100");
  EXPECT_EQ(machine.gpus[0].capability, (CudaCapability{9, 0}));
  EXPECT_EQ(machine.gpus[1].memory_bytes, uint64_t{40} << 30);
  EXPECT_TRUE(made.contexts.empty()) << "a context takes memory of the GPU";
}

TEST(CudaProbe, driver_without_a_gpu_has_none) {
  for (const char* const function : {"init", "device_count"}) {
    MadeUpDriver made{.errors = {{function, CudaDriver::kNoDevice}}};
    const CudaMachine machine = probe_cuda(made.driver());
    EXPECT_TRUE(machine.has_driver && machine.gpus.empty() && machine.failure.empty()) << function;
  }
}

TEST(CudaProbe, failure_is_told_with_function_and_code) {
  const auto failure = [](const char* function, int code) {
    MadeUpDriver made{.gpus = {made_up_h100()}, .errors = {{function, code}}};
    return probe_cuda(made.driver()).failure;
  };
  EXPECT_EQ(failure("init", 999), "cuInit: error 999 (made up)");
  EXPECT_EQ(failure("init", 802), "cuInit: error 802 (unknown to it)");
  EXPECT_EQ(failure("device_count", 3), "cuDeviceGetCount: error 3 (unknown to it)");
  EXPECT_EQ(failure("device", 101), "GPU 0: cuDeviceGet: error 101 (unknown to it)");
  EXPECT_EQ(failure("device_name", 1), "GPU 0: cuDeviceGetName: error 1 (unknown to it)");
  EXPECT_EQ(failure("device_attribute", 1), "GPU 0: cuDeviceGetAttribute: error 1 (unknown to it)");
  EXPECT_EQ(failure("device_bytes", 1), "GPU 0: cuDeviceTotalMem: error 1 (unknown to it)");
}

TEST(CudaProbe, library_that_is_no_driver_lacks_its_functions) {
  EXPECT_EQ(load_cuda_driver("libc.so.6").status().message(), "libc.so.6 has no cuInit");
  EXPECT_EQ(load_cuda_driver("libnowhere.so.1").status().code(), StatusCode::kNotFound);
}

TEST(CudaProbe, gpu_that_workers_can_use_has_no_obstacle) {
  EXPECT_EQ(obstacle(machine_of({made_up_h100()})), "none");
  EXPECT_EQ(obstacle(machine_of({made_up_a100(), made_up_h100()}), needs_of({0, 1})), "none")
      << "engines may be on different ones";
  EXPECT_EQ(obstacle(machine_of({made_up_h100(), made_up_t4()})), "none") << "only one is taken";
}

TEST(CudaProbe, no_driver) {
  const std::string text =
      "no NVIDIA driver (libcuda.so.1) on this machine; install the driver, or use --device cpu";
  EXPECT_EQ(obstacle({}), text);
  EXPECT_EQ(obstacle({}, {}), text) << "who has no driver need not build anything";
}

TEST(CudaProbe, no_program) {
  EXPECT_EQ(obstacle(machine_of({made_up_h100()}), {.group_of_worker = {0}}),
            "worker-cuda is not beside the other programs; build it by ./trireme build --cuda, or "
            "use --device cpu");
}

TEST(CudaProbe, driver_of_an_older_major_version) {
  CudaMachine machine = machine_of({made_up_h100()});
  machine.driver_version = 12080;
  EXPECT_EQ(obstacle(machine),
            "the NVIDIA driver runs CUDA up to 12.8, worker-cuda was built with 13.0; install a "
            "driver for CUDA 13.0 or later, or use --device cpu");
  CudaNeeds needs = needs_of({0});
  needs.runtime_version = 12090;
  EXPECT_EQ(obstacle(machine, needs), "none") << "of the same major version";
}

TEST(CudaProbe, driver_that_fails) {
  CudaMachine machine = machine_of({});
  machine.failure = "cuInit: error 999 (unknown error)";
  EXPECT_EQ(obstacle(machine),
            "the NVIDIA driver fails, cuInit: error 999 (unknown error); see whether nvidia-smi "
            "shows the GPUs, or use --device cpu");
}

TEST(CudaProbe, no_gpu_is_visible) {
  CudaNeeds needs = needs_of({0});
  EXPECT_EQ(obstacle(machine_of({}), needs),
            "no GPU is visible (CUDA_VISIBLE_DEVICES is not set); make one visible, or use "
            "--device cpu");
  needs.visible_devices = "-1";
  EXPECT_EQ(obstacle(machine_of({}), needs),
            "no GPU is visible (CUDA_VISIBLE_DEVICES is \"-1\"); make one visible, or use "
            "--device cpu");
}

TEST(CudaProbe, fewer_gpus_than_workers) {
  CudaNeeds needs = needs_of({0, 0, 1, 1});
  needs.visible_devices = "0";
  EXPECT_EQ(obstacle(machine_of({made_up_h100()}), needs),
            "this node has 4 workers, each for a GPU of its own, and 1 visible GPUs "
            "(CUDA_VISIBLE_DEVICES is \"0\"); make more visible or take fewer workers, or use "
            "--device cpu");
}

TEST(CudaProbe, gpu_that_is_too_old) {
  EXPECT_EQ(obstacle(machine_of({made_up_h100(), made_up_t4()}), needs_of({0, 1})),
            "GPU 1 (Tesla T4, compute capability 7.5) is too old, 8.0 or later is needed; choose "
            "others by CUDA_VISIBLE_DEVICES, or use --device cpu");
}

TEST(CudaProbe, group_of_different_gpus) {
  EXPECT_EQ(obstacle(machine_of({made_up_h100(), made_up_h100(), made_up_a100(), made_up_h100()}),
                     needs_of({0, 0, 1, 1})),
            "GPU 2 (A100, compute capability 8.0) and GPU 3 (H100, compute capability 9.0) are not "
            "of a kind, but in one tensor-parallel group; choose others by CUDA_VISIBLE_DEVICES, "
            "or use --device cpu");
}

TEST(CudaProbe, memory_is_that_of_the_gpu_that_is_asked_for) {
  MadeUpDriver made{.gpus = {made_up_h100(), made_up_h100()}, .free_bytes = 7};
  const auto memory = cuda_memory(made.driver(), 1);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->free_bytes, 7u);
  EXPECT_EQ(memory->total_bytes, 14u);
  EXPECT_EQ(made.contexts, std::vector<int>{1});
  EXPECT_EQ(made.pushed_count, 0);
}

TEST(CudaProbe, memory_that_is_not_told_is_an_error_with_the_function) {
  const std::pair<const char*, const char*> kSteps[] = {
      {"device", "cuDeviceGet"},
      {"retain_context", "cuDevicePrimaryCtxRetain"},
      {"push_context", "cuCtxPushCurrent"},
      {"memory", "cuMemGetInfo"}};
  for (const auto& [step, name] : kSteps) {
    MadeUpDriver made{.gpus = {made_up_h100()}, .errors = {{step, 2}}};
    EXPECT_EQ(std::string(cuda_memory(made.driver(), 0).status().message()),
              "GPU 0: " + std::string(name) + ": error 2 (unknown to it)");
    EXPECT_EQ(made.pushed_count, 0) << step;
  }
}

TEST(CudaProbe, version_is_as_people_say_it) {
  EXPECT_EQ(cuda_version_text(12080), "12.8");
  EXPECT_EQ(cuda_version_text(13000), "13.0");
}

}  // namespace
}  // namespace trireme
