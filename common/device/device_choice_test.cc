// Goal: --device becomes cpu or cuda as the flags and the machine have it; auto is never an error.
#include "common/device/device_choice.h"

#include <gtest/gtest.h>

#include <string>

#include "common/device/made_up_driver_for_test.h"

namespace trireme {
namespace {

const CudaNeeds kNeeds = {.has_program = true, .runtime_version = 13000, .group_of_worker = {0}};
const CudaMachine kWithGpu = {
    .has_driver = true, .driver_version = 13000, .gpus = {made_up_h100(), made_up_h100()}};

ServeOptions asks(DeviceKind device, Executor executor = Executor::kAuto) {
  ServeOptions options;
  options.worker.device = device;
  options.parallel.executor = executor;
  return options;
}

std::string decided(DeviceKind asked, const CudaMachine& machine, const CudaNeeds& needs = kNeeds,
                    Executor executor = Executor::kAuto) {
  const auto choice = decide_device(asks(asked, executor), machine, needs);
  if (!choice.ok()) return "error: " + std::string(choice.status().message());
  return std::string(name_of(choice->device)) + (choice->why.empty() ? "" : ": " + choice->why);
}

TEST(DeviceChoice, what_is_asked_for_is_taken) {
  EXPECT_EQ(decided(DeviceKind::kCpu, kWithGpu), "cpu");
  EXPECT_EQ(decided(DeviceKind::kCuda, kWithGpu), "cuda");
}

TEST(DeviceChoice, cuda_that_is_not_there_is_an_error_of_one_line) {
  EXPECT_EQ(decided(DeviceKind::kCuda, {}),
            "error: --device cuda: no NVIDIA driver (libcuda.so.1) on this machine; install the "
            "driver, or use --device cpu");
  EXPECT_EQ(decided(DeviceKind::kCuda, kWithGpu, {.group_of_worker = {0}}),
            "error: --device cuda: worker-cuda is not beside the other programs; build it by "
            "./trireme build --cuda, or use --device cpu");
}

TEST(DeviceChoice, auto_takes_gpus_that_workers_can_use_and_says_so) {
  EXPECT_EQ(decided(DeviceKind::kAuto, kWithGpu),
            "cuda: --device auto: cuda, 1 workers on 2 visible GPUs (H100)");
}

TEST(DeviceChoice, auto_takes_the_cpu_and_says_why) {
  EXPECT_EQ(decided(DeviceKind::kAuto, {}),
            "cpu: --device auto: cpu, no NVIDIA driver (libcuda.so.1) on this machine");
  EXPECT_EQ(decided(DeviceKind::kAuto, kWithGpu, {.group_of_worker = {0}}),
            "cpu: --device auto: cpu, worker-cuda is not beside the other programs");
}

TEST(DeviceChoice, auto_without_worker_processes_is_the_cpu_and_says_nothing) {
  EXPECT_EQ(decided(DeviceKind::kAuto, kWithGpu, kNeeds, Executor::kUni), "cpu");
  EXPECT_EQ(decided(DeviceKind::kAuto, kWithGpu, kNeeds, Executor::kSim), "cpu");
  EXPECT_EQ(decided(DeviceKind::kAuto, {}, kNeeds, Executor::kSim), "cpu");
}

TEST(DeviceChoice, every_worker_of_the_node_needs_a_gpu) {
  ServeOptions options = asks(DeviceKind::kAuto);
  options.parallel.data_parallel_size = 2;
  options.parallel.tensor_parallel_size = 2;
  EXPECT_EQ(cuda_needs(options).group_of_worker, (std::vector<uint32_t>{0, 0, 1, 1}));
}

TEST(DeviceChoice, device_has_a_worker_program) {
  EXPECT_EQ(worker_program(DeviceKind::kCuda), "worker-cuda");
  EXPECT_EQ(worker_program(DeviceKind::kCpu), "worker");
  EXPECT_EQ(worker_program(DeviceKind::kAuto), "worker") << "of a rank that nobody told";
}

}  // namespace
}  // namespace trireme
