#include "worker/cpu_binding.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

using Cpus = std::vector<int>;

const Cpus kAllowed = {0, 1, 2, 3, 8, 9, 10};
const MachineCores kMachine = {.allowed = kAllowed, .nodes = Cpus(7, 0)};

Cpus cpus(const std::string& bind, uint32_t index, uint32_t count) {
  const StatusOr<WorkerCores> out = cores_of_worker(bind, kMachine, {index, count});
  EXPECT_TRUE(out.ok()) << out.status();
  if (out.ok() && !out->cpus.empty()) {
    EXPECT_EQ(out->thread_count, out->cpus.size());
  }
  return out.ok() ? out->cpus : Cpus{};
}

TEST(CpuBinding, auto_uses_every_core_once) {
  for (uint32_t count = 1; count <= kAllowed.size(); ++count) {
    Cpus all;
    for (uint32_t index = 0; index < count; ++index) {
      const Cpus mine = cpus("auto", index, count);
      EXPECT_FALSE(mine.empty());
      all.insert(all.end(), mine.begin(), mine.end());
    }
    EXPECT_EQ(all, kAllowed) << count;
  }
}

TEST(CpuBinding, more_workers_than_cores_share) {
  EXPECT_EQ(cpus("auto", 6, 9), (Cpus{10}));
  EXPECT_EQ(cpus("auto", 8, 9), (Cpus{1}));
}

TEST(CpuBinding, lists_are_taken_by_worker) {
  EXPECT_EQ(cpus("0-2,9|8", 0, 2), (Cpus{0, 1, 2, 9}));
  EXPECT_EQ(cpus("0-2,9|8", 1, 2), (Cpus{8}));
  EXPECT_EQ(cpus("nobind", 1, 2), (Cpus{}));
}

TEST(CpuBinding, bad_lists_are_refused_by_name) {
  for (const char* bind :
       {"x", "3-1", "0-", "-1", "1.5", "0--1", "99999", "0,", ",0", "0,,1", "0,0", "0-2,1"}) {
    const auto out = cores_of_worker(bind, kMachine, {0, 1});
    EXPECT_NE(std::string(out.status().message()).find("--cpu-threads-bind"), std::string::npos)
        << bind;
  }
  EXPECT_EQ(std::string(cores_of_worker("5", kMachine, {0, 1}).status().message()),
            "--cpu-threads-bind 5: core 5 is not one that this process may use: it has 0-3,8-10");
  EXPECT_EQ(std::string(cores_of_worker("0,0", kMachine, {0, 1}).status().message()),
            "--cpu-threads-bind 0,0: core 0 is twice in a list: a core has one thread");
  for (const char* bind : {"0|", "|0", "0|1,"}) {
    const std::string part(bind == std::string("0|1,") ? "1," : "");
    EXPECT_EQ(std::string(cores_of_worker(bind, kMachine, {0, 2}).status().message()),
              "--cpu-threads-bind " + std::string(bind) + ": \"" + part +
                  "\" is not auto, nobind or a list of cores like 0-3,8");
  }
  EXPECT_EQ(std::string(cores_of_worker("0|1", kMachine, {0, 1}).status().message()),
            "--cpu-threads-bind 0|1 has 2 lists, this node has 1 workers");
  EXPECT_EQ(std::string(cores_of_worker("0|1", kMachine, {2, 3}).status().message()),
            "--cpu-threads-bind 0|1 has 2 lists, this node has 3 workers");
}

TEST(CpuBinding, unbound_threads_are_as_many_as_the_cores) {
  EXPECT_EQ(cores_of_worker("nobind", kMachine, {0, 2})->thread_count, 7U);
}

TEST(CpuBinding, granted_cpu_time_is_divided_among_unbound_workers) {
  MachineCores container = kMachine;
  container.quota = 5;
  uint32_t threads = 0;
  for (uint32_t index = 0; index < 2; ++index) {
    const auto cores = cores_of_worker("auto", container, {index, 2});
    EXPECT_TRUE(cores->cpus.empty());
    threads += cores->thread_count;
  }
  EXPECT_EQ(threads, 5U);
  EXPECT_EQ(cores_of_worker("auto", container, {7, 8})->thread_count, 1U);
  EXPECT_EQ(cores_of_worker("nobind", container, {0, 1})->thread_count, 5U);
  EXPECT_EQ(cores_of_worker("0-2", container, {0, 1})->cpus, (Cpus{0, 1, 2})) << "as asked for";
}

TEST(CpuBinding, lists_are_shown_in_ranges) {
  const Cpus cpus = {4, 0, 1, 2, 7, 8};
  EXPECT_EQ(cpu_list_text(cpus), "0-2,4,7-8");
}

TEST(CpuBinding, process_may_use_some_core) { EXPECT_FALSE(allowed_cpus().empty()); }

}  // namespace
}  // namespace trireme::worker
