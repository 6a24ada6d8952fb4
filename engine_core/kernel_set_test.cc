// Goal: engines compare the instructions that they compute with, whoever asked for them.
#include "engine_core/kernel_set.h"

#include <gtest/gtest.h>

#include "worker/kernels/cpu/kernel_choice.h"

namespace trireme::engine {
namespace {

std::string appended(const ServeOptions& options) {
  std::vector<wire::ConfigEntry> config;
  append_kernel_set(options, config);
  std::string text;
  for (const wire::ConfigEntry& entry : config) {
    text += (text.empty() ? "" : ", ") + entry.name + " " + entry.value;
  }
  return text.empty() ? "nothing" : text;
}

TEST(KernelSet, auto_is_the_best_of_this_cpu_by_its_own_name) {
  ServeOptions options;
  EXPECT_EQ(appended(options),
            "device cpu, cpu-kernels " + std::string(worker::cpu::best_kernels().name));
  options.worker.cpu_kernels = "plain";
  EXPECT_EQ(appended(options), "device cpu, cpu-kernels plain");
}

TEST(KernelSet, of_cuda_is_the_device_alone) {
  ServeOptions options;
  options.worker.device = DeviceKind::kCuda;
  EXPECT_EQ(appended(options), "device cuda");
}

TEST(KernelSet, engines_without_workers_have_none) {
  ServeOptions options;
  options.parallel.executor = trireme::Executor::kSim;
  EXPECT_EQ(appended(options), "nothing");
}

}  // namespace
}  // namespace trireme::engine
