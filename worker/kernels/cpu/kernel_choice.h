// Which KernelTable a CpuDevice computes with. Threads: any.
#pragma once

#include <span>
#include <string_view>

#include "common/status.h"
#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {

// All of them, the fastest last, and which of them this CPU and its kernel run.
[[nodiscard]] std::span<const KernelTable* const> all_kernels();
[[nodiscard]] bool cpu_runs(const KernelTable& table);
// The fastest that this CPU runs.
[[nodiscard]] const KernelTable& best_kernels();
// By its name, or "auto" for the best; kInvalidArgument when this CPU does not run it.
[[nodiscard]] StatusOr<const KernelTable*> find_kernels(std::string_view name);

}  // namespace trireme::worker::cpu
