// Which KernelTable a CpuDevice computes with. Threads: any.
#pragma once

#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {

// Those that this CPU and its kernel run, the fastest last.
[[nodiscard]] std::vector<const KernelTable*> runnable_kernels();
// The fastest of them.
[[nodiscard]] const KernelTable& best_kernels();
// By its name, or "auto" for the best; kInvalidArgument when this CPU does not run it.
[[nodiscard]] StatusOr<const KernelTable*> find_kernels(std::string_view name);

}  // namespace trireme::worker::cpu
