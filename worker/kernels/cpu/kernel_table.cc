#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {

bool cpu_runs(const KernelTable& table) {
  if (&table == &avx512_kernels()) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  }
  if (&table == &avx2_kernels()) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
  }
  return true;
}

const KernelTable& best_kernels() {
  if (cpu_runs(avx512_kernels())) return avx512_kernels();
  if (cpu_runs(avx2_kernels())) return avx2_kernels();
  return plain_kernels();
}

}  // namespace trireme::worker::cpu
