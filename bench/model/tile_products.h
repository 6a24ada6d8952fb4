// The bf16 products of AMX tiles, as limits.cc measures them.
#pragma once

#include <cstdint>

namespace trireme::bench {

// Whether the CPU has them and the kernel lets this process use them; asks the kernel.
[[nodiscard]] bool may_multiply_tiles();

// So many times four independent tdpbf16ps on full tiles, in the caller. Needs
// may_multiply_tiles().
void multiply_tiles(uint32_t steps);

// 16 by 16 sums of 32 products and as many additions, four times.
inline constexpr double kTileStepOperations = 4.0 * 16 * 16 * 32 * 2;

}  // namespace trireme::bench
