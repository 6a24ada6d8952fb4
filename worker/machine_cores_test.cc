// Goal: what a machine's folders say of cores, nodes and CPU time is read as the kernel means it.
#include "worker/machine_cores.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "worker/weights/test_directory.h"

namespace trireme::worker {
namespace {

using Cpus = std::vector<int>;

class MachineFolders : public ::testing::Test {
 protected:
  void write(const std::string& path, std::string_view text) const {
    std::filesystem::create_directories(
        std::filesystem::path(directory_.path() + path).parent_path());
    directory_.write(path.substr(1), text);
  }
  [[nodiscard]] MachineCores read(const Cpus& allowed) const {
    return read_machine_cores(directory_.path(), allowed);
  }

  TestDirectory directory_;
};

TEST_F(MachineFolders, without_folders_there_is_one_node_and_no_quota) {
  const MachineCores machine = read({0, 1, 5});
  EXPECT_EQ(machine.allowed, (Cpus{0, 1, 5}));
  EXPECT_EQ(machine.nodes, (Cpus{0, 0, 0}));
  EXPECT_EQ(machine.quota, 0U);
  EXPECT_EQ(machine.nodes_of({}), (Cpus{0}));
}

TEST_F(MachineFolders, cores_of_a_node_stand_together) {
  // As two sockets with two threads a core are numbered.
  write("/sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
  write("/sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
  write("/sys/devices/system/node/node2/cpulist", "\n");
  write("/sys/devices/system/node/has_cpu", "0-1\n");
  const MachineCores machine = read({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(machine.allowed, (Cpus{0, 1, 4, 5, 2, 3, 6, 7}));
  EXPECT_EQ(machine.nodes, (Cpus{0, 0, 0, 0, 1, 1, 1, 1}));
  const Cpus far = {6};
  EXPECT_EQ(machine.nodes_of(far), (Cpus{1}));
  const Cpus both = {3, 4};
  EXPECT_EQ(machine.nodes_of(both), (Cpus{0, 1}));
}

TEST_F(MachineFolders, quota_of_any_group_above_counts_and_is_rounded_up) {
  write("/proc/self/cgroup", "1:name=systemd:/\n0::/a/b\n");
  write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(read({0, 1, 2, 3}).quota, 0U);
  write("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(read({0, 1, 2, 3}).quota, 2U);
  EXPECT_EQ(read({0, 1}).quota, 0U) << "no tighter than what is allowed";
}

TEST_F(MachineFolders, quota_of_the_first_cgroup_version) {
  write("/proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/c\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "50000\n");
  write("/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(read({0, 1, 2, 3}).quota, 1U);
}

TEST(MachineCores, memory_may_be_kept_on_the_node_that_this_machine_has) {
  const MachineCores machine = read_machine_cores("", allowed_cpus());
  ASSERT_FALSE(machine.allowed.empty());
  const Cpus nodes = machine.nodes_of({});
  // A sandbox may refuse; a node that is not there is refused by any kernel.
  (void)keep_memory_on(nodes);
  const Cpus beyond = {1 << 20};
  EXPECT_FALSE(keep_memory_on(beyond));
  (void)keep_memory_on({});
}

}  // namespace
}  // namespace trireme::worker
