// How much memory a worker may take: on the CPU what the kernel says is available, within the
// cgroup's limit; on a GPU what its driver says is free; and the share of it that
// --gpu-memory-utilization and --kv-cache-memory-bytes allow for KV.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::worker {

// Unless a flag asks for another share or size: a machine is seldom there for one engine alone.
inline constexpr double kDefaultKvShare = 0.9;
inline constexpr uint64_t kDefaultKvBytesMax = uint64_t{4} << 30;

// MemAvailable of /proc/meminfo's text; 0 when it is not there. Pure.
[[nodiscard]] uint64_t available_in_meminfo(std::string_view meminfo);

// Bytes that may be taken now. `root` is empty, or a directory that stands for "/" in a test.
[[nodiscard]] uint64_t available_memory(const std::string& root);

// What weights and KV are to fit into, in messages.
inline constexpr const char* kHostMemoryName = "memory";
inline constexpr const char* kDeviceMemoryName = "the GPU's memory";

// What a worker's weights take of its node's memory. Workers that share them count them once: who
// makes them takes all, who finds them nothing.
struct WeightBudget {
  uint64_t bytes = 0;      // Of one copy.
  uint32_t copies = 1;     // On this node, this worker's included: of all places in the model here.
  uint32_t sharers = 1;    // Workers of this node that have the same copy.
  bool are_there = false;  // Made by another worker, or an earlier life of this one.
};

// The copies that `local_workers` have, each shared by `sharers` of them.
[[nodiscard]] uint32_t weight_copies(uint32_t local_workers, uint32_t sharers);

// kResourceExhausted with both numbers when all copies are more than `available` of `memory`.
[[nodiscard]] Status check_weights_fit(const WeightBudget& weights, uint64_t available,
                                       const char* memory = kHostMemoryName);

// "shared by 2 ranks, made by this one": for the log.
[[nodiscard]] std::string sharing_text(const WeightBudget& weights);

// KV bytes of one of `local_workers` equal workers, the weights being loaded: what the flag says,
// or a share of what is available beside `scratch_bytes` for each worker's steps. Pure.
// kResourceExhausted when the flag asks for more than there is for all of them; for one that finds
// its weights made, only for itself: what the others have of theirs may be taken already.
[[nodiscard]] StatusOr<uint64_t> kv_budget(const SchedulerOptions& options, uint64_t available,
                                           uint64_t scratch_bytes, uint32_t local_workers,
                                           bool are_weights_found);

// KV bytes of a worker that has its memory alone, the weights being loaded: what the flag says, or
// a share of what is free beside `scratch_bytes`, 0.9 by default. Pure. kResourceExhausted with
// both numbers when the flag, or a step's scratch, asks for more than is free.
[[nodiscard]] StatusOr<uint64_t> device_kv_budget(const SchedulerOptions& options,
                                                  uint64_t free_bytes, uint64_t scratch_bytes);

}  // namespace trireme::worker
