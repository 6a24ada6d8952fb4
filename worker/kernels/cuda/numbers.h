// Numbers of all types as fp32, several at a time. Device code.
#pragma once

#include "worker/kernels/cuda/launch.h"

namespace trireme::worker::cuda {

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(int8_t value) { return static_cast<float>(value); }

template <typename Value>
__device__ Value from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ inline __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

// What a thread reads or writes at once: 16 bytes of it are one instruction.
template <typename Value, uint32_t kCount>
struct alignas(sizeof(Value) * kCount) Pack {
  Value at[kCount];
};

// Columns of a row that a thread takes at once, of whatever type.
inline constexpr uint32_t kColumnsAtOnce = 4;
using Columns = Pack<float, kColumnsAtOnce>;

template <typename Value>
__device__ inline bool is_whole_pack(const Value* at, uint32_t column, uint32_t column_count) {
  return column + kColumnsAtOnce <= column_count &&
         reinterpret_cast<uintptr_t>(at) % sizeof(Pack<Value, kColumnsAtOnce>) == 0;
}

// Columns column to column + 3 of a row; zeros behind its end. How they lie in memory changes how
// they are read, never what is computed.
template <typename Value>
__device__ inline Columns load_columns(const Value* row, uint32_t column, uint32_t column_count) {
  Columns columns;
  if (is_whole_pack(row + column, column, column_count)) {
    const auto stored = *reinterpret_cast<const Pack<Value, kColumnsAtOnce>*>(row + column);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) columns.at[i] = to_float(stored.at[i]);
    return columns;
  }
  for (uint32_t i = 0; i < kColumnsAtOnce; ++i) {
    columns.at[i] = column + i < column_count ? to_float(row[column + i]) : 0.0F;
  }
  return columns;
}

template <typename Value>
__device__ inline void store_columns(const Columns& columns, Value* row, uint32_t column,
                                     uint32_t column_count) {
  if (is_whole_pack(row + column, column, column_count)) {
    Pack<Value, kColumnsAtOnce> stored;
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) stored.at[i] = from_float<Value>(columns.at[i]);
    *reinterpret_cast<Pack<Value, kColumnsAtOnce>*>(row + column) = stored;
    return;
  }
  for (uint32_t i = 0; i < kColumnsAtOnce && column + i < column_count; ++i) {
    row[column + i] = from_float<Value>(columns.at[i]);
  }
}

__device__ inline float* row_of(const View& view, uint32_t row) {
  return view.data + static_cast<std::size_t>(row) * view.row_stride;
}

}  // namespace trireme::worker::cuda
