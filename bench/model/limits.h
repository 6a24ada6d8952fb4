// What this machine can do at this minute, on the cores of a pool: how fast it reads memory that no
// cache holds, and how fast it multiplies in bf16. Virtual machines change both by the hour, so a
// measurement is a share of the limits taken right before and after it.
#pragma once

#include "worker/thread_pool.h"

namespace trireme::bench {

struct Limits {
  double read_gigabytes = 0;  // A second.
  double gigaflops = 0;       // Of `instruction`; 0: this CPU multiplies no bf16.
  const char* instruction = "";
};

// The fastest bf16 product that the CPU has is measured, whether or not our kernels use it.
// Takes about half a second. The first call maps two gigabytes.
[[nodiscard]] Limits measure_limits(worker::ThreadPool& pool);

}  // namespace trireme::bench
