// Weights as whole numbers, made on load. Where one of the values is no finite number, the scale is
// NaN, and so is all that is computed with it. Pure.
#pragma once

#include <cstdint>
#include <span>

namespace trireme::worker {

// Of all values; NaN where one is no finite number.
[[nodiscard]] float largest_magnitude(std::span<const float> values);

// codes[i] = values[i] / scale + 128, to the nearest; gives the scale, by which the largest
// magnitude becomes 127.
[[nodiscard]] float quantize_int8(std::span<const float> values, std::span<uint8_t> codes);

// codes[i] = values[i] / scale + 8 within 0 to 15; gives the scale as fp16, in units of `unit`. Of
// some scales around the one by which the largest magnitude becomes -8, the one with the least
// error, which a kernel measures (cpu/kernel_table.h). At most kInt4GroupMax values.
inline constexpr uint32_t kInt4GroupMax = 128;
using Int4Error = float (*)(const float* values, uint32_t count, float scale);
[[nodiscard]] uint16_t quantize_int4(std::span<const float> values, float unit, Int4Error error_of,
                                     std::span<uint8_t> codes);

// A power of two in which scales up to largest_scale are fp16 numbers, the small ones too. NaN of
// NaN: kernels without an instruction for fp16 read its NaN as a number, so a matrix with one has
// it here.
[[nodiscard]] float scale_unit_for(float largest_scale);

}  // namespace trireme::worker
