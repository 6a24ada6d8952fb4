// Which KernelTable a CpuDevice computes with. Threads: any.
#pragma once

#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {

// What a table may need of the CPU and its operating system.
struct CpuFeatures {
  bool has_avx2 = false;    // With FMA and BMI2.
  bool has_avx512 = false;  // F, BW, DQ, VL, VNNI and BF16, and BMI2.
  bool has_amx = false;     // For bf16 and int8, and the kernel grants tiles.
};

// Those that such a CPU runs, the fastest last; the first one runs everywhere.
[[nodiscard]] std::vector<const KernelTable*> kernels_for(const CpuFeatures& features);
// Of this CPU.
[[nodiscard]] std::vector<const KernelTable*> runnable_kernels();
// The fastest of them.
[[nodiscard]] const KernelTable& best_kernels();
// By its name, or "auto" for the best; kInvalidArgument when this CPU does not run it.
[[nodiscard]] StatusOr<const KernelTable*> find_kernels(std::string_view name);
// What people should know of a table that is computed with; empty: nothing.
[[nodiscard]] std::string_view notice_of(const KernelTable& kernels);

}  // namespace trireme::worker::cpu
