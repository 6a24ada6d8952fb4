#include "worker/memory_budget.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "worker/weights/test_directory.h"

namespace trireme::worker {
namespace {

class Machine : public ::testing::Test {
 protected:
  Machine() { write("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable:   2000 kB\nX: 1 kB\n"); }
  void write(const std::string& path, std::string_view text) const {
    std::filesystem::create_directories(
        std::filesystem::path(directory_.path() + path).parent_path());
    directory_.write(path.substr(1), text);
  }
  uint64_t available() const { return available_memory(directory_.path()); }

  TestDirectory directory_;
};

TEST_F(Machine, without_a_cgroup_the_kernel_decides) {
  EXPECT_EQ(available(), 2000u * 1024);
  EXPECT_EQ(available_in_meminfo("nothing"), 0u);
}

TEST_F(Machine, limit_of_any_group_above_counts) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/b/memory.current", "10\n");
  EXPECT_EQ(available(), 2000u * 1024);
  write("/sys/fs/cgroup/a/memory.max", "5000\n");
  write("/sys/fs/cgroup/a/memory.current", "3000\n");
  EXPECT_EQ(available(), 2000u);
  write("/sys/fs/cgroup/a/memory.stat", "active_file 9\ninactive_file 1000\n");
  EXPECT_EQ(available(), 3000u) << "idle file pages are given back";
}

TEST_F(Machine, groups_of_version_1_count_too) {
  write("/proc/self/cgroup", "5:cpu:/\n4:memory:/g\n0::/\n");
  write("/sys/fs/cgroup/memory/g/memory.limit_in_bytes", "800\n");
  write("/sys/fs/cgroup/memory/g/memory.usage_in_bytes", "900\n");
  EXPECT_EQ(available(), 0u);
}

TEST(MemoryBudget, flag_is_taken_as_it_is_if_there_is_so_much) {
  EXPECT_EQ(*kv_budget({.kv_bytes = 250}, 1000, 0, 4, false), 250u);
  const auto refused = kv_budget({.kv_bytes = 1001}, 1000, 0, 1, false);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(refused.status().message()),
            "--kv-cache-memory-bytes 1001, but only 1000 bytes of memory are available");
}

TEST(MemoryBudget, flag_counts_for_all_workers_of_the_node) {
  const auto refused = kv_budget({.kv_bytes = 700}, 1000, 0, 2, false);
  EXPECT_EQ(std::string(refused.status().message()),
            "--kv-cache-memory-bytes 700 for each of this node's 2 workers, but only 1000 bytes of "
            "memory are available");
  EXPECT_FALSE(kv_budget({.kv_bytes = uint64_t{1} << 63}, 1000, 0, 2, false).ok()) << "no overflow";
}

TEST(MemoryBudget, who_starts_beside_others_that_run_answers_for_itself) {
  EXPECT_EQ(*kv_budget({.kv_bytes = 700}, 1000, 0, 2, true), 700u);
  EXPECT_FALSE(kv_budget({.kv_bytes = 1001}, 1000, 0, 2, true).ok());
}

TEST(MemoryBudget, default_is_a_share_and_modest) {
  EXPECT_EQ(*kv_budget({}, 1000, 0, 2, false), 450u);
  EXPECT_EQ(*kv_budget({}, uint64_t{1} << 40, 0, 1, false), kDefaultKvBytesMax);
}

TEST(MemoryBudget, share_that_is_asked_for_is_obeyed_however_large) {
  EXPECT_EQ(*kv_budget({.memory_utilization = 0.5}, 1000, 0, 2, false), 250u);
  EXPECT_EQ(*kv_budget({.memory_utilization = 0.5}, uint64_t{1} << 40, 0, 1, false),
            uint64_t{1} << 39);
}

TEST(MemoryBudget, scratch_of_all_workers_is_left_free) {
  EXPECT_EQ(*kv_budget({.memory_utilization = 0.5}, 1000, 100, 2, false), 200u);
  EXPECT_EQ(*kv_budget({}, 1000, 600, 2, false), 0u) << "there is none left";
  EXPECT_EQ(*kv_budget({.kv_bytes = 450}, 1000, 100, 2, false), 450u) << "the flag knows";
}

TEST(MemoryBudget, weights_that_do_not_fit_are_refused_with_both_sizes) {
  EXPECT_TRUE(check_weights_fit({.bytes = 5}, 5).ok());
  const Status status = check_weights_fit({.bytes = uint64_t{3} << 30}, uint64_t{1} << 30);
  EXPECT_NE(std::string(status.message()).find("need 3.00 GiB, 1.00 GiB"), std::string::npos);
}

TEST(MemoryBudget, weights_of_all_places_on_the_node_count) {
  EXPECT_EQ(weight_copies(2, 1), 2u) << "two parts of a model, or two ranks with a copy each";
  EXPECT_EQ(weight_copies(4, 2), 2u) << "two ranks that share each of two parts";
  EXPECT_EQ(weight_copies(3, 2), 2u);
  EXPECT_EQ(weight_copies(2, 2), 1u);
  EXPECT_TRUE(check_weights_fit({.bytes = 5, .copies = 2}, 10).ok());
  const Status status =
      check_weights_fit({.bytes = uint64_t{3} << 30, .copies = 2, .sharers = 2}, uint64_t{5} << 30);
  EXPECT_EQ(
      std::string(status.message()),
      "the weights of this node's workers (2 parts or copies, each shared by 2 ranks) need "
      "6.00 GiB, 5.00 GiB of memory are available: take a smaller model or a larger machine, or "
      "spread it with --tensor-parallel-size and --nnodes over several machines");
}

TEST(MemoryBudget, shared_weights_are_counted_by_who_makes_them_alone) {
  const Status first = check_weights_fit({.bytes = 6, .sharers = 3}, 5);
  EXPECT_NE(std::string(first.message()).find("(shared by 3 ranks)"), std::string::npos) << first;
  EXPECT_TRUE(check_weights_fit({.bytes = 6, .sharers = 3, .are_there = true}, 5).ok());
}

TEST(MemoryBudget, gpu_is_its_workers_alone_and_no_modest_bound_holds_there) {
  EXPECT_EQ(*device_kv_budget({}, 1000, 0), 900u);
  EXPECT_EQ(*device_kv_budget({}, 1100, 100), 900u) << "a step's scratch is left free";
  EXPECT_EQ(*device_kv_budget({.memory_utilization = 0.5}, 1000, 0), 500u);
  EXPECT_GT(*device_kv_budget({}, uint64_t{80} << 30, 0), kDefaultKvBytesMax);
  EXPECT_EQ(*device_kv_budget({.kv_bytes = 950}, 1000, 100), 950u) << "the flag knows";
}

TEST(MemoryBudget, gpu_that_is_too_small_is_told_of_with_both_sizes) {
  EXPECT_EQ(std::string(device_kv_budget({.kv_bytes = 1001}, 1000, 0).status().message()),
            "--kv-cache-memory-bytes 1001, but only 1000 bytes of the GPU's memory are free");
  EXPECT_EQ(
      std::string(device_kv_budget({}, uint64_t{1} << 30, uint64_t{2} << 30).status().message()),
      "a full step needs 2.00 GiB beside the weights, 1.00 GiB of the GPU's memory are free: lower "
      "--max-num-batched-tokens or --max-num-seqs, or take more GPUs");
  const Status weights =
      check_weights_fit({.bytes = uint64_t{3} << 30}, uint64_t{1} << 30, kDeviceMemoryName);
  EXPECT_NE(std::string(weights.message())
                .find("this worker's weights need 3.00 GiB, 1.00 GiB of the GPU's memory are"),
            std::string::npos)
      << weights;
}

}  // namespace
}  // namespace trireme::worker
