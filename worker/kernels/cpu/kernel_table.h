// KernelTable: the CPU kernels of one instruction set; chosen once, at run time (kernel_choice.h).
//
// All tables hold the same algorithms over the same memory forms of weights and KV, which do not
// depend on the table. Bits may differ between tables (fused multiply-add or not), never
// between two calls of one table with the same row.
//
// Forms
//   matrix fp32   panels of 32 columns of the product: [panel][k][32], zero-padded
//   matrix bf16   units of two along K, 16 a block: [panel][unit block][half][unit][16 columns][2],
//                 so that what AMX loads as one tile, half a block, lies in one piece
//   matrix int8   units of four: [panel][unit block][half][unit][16 columns][4], each code the
//   value
//                 / scale of its column + 128
//   matrix int4   groups of group_units · 4 values of K, each with a scale (and a zero) per column:
//                 [panel][group][k / 8][32][4], k and k + 4 in the low and high half of a byte
//                 bf16 and int8: K is padded to whole blocks of 16 units
//   rows (A)      tiles of up to row_tile rows: [tile][unit][row]; a unit is one fp32, two bf16 or
//                 four int8. Where a table multiplies by AMX tiles: [tile][unit block][row][16
//                 units], a block of int4 being a group where that is smaller
//   KV            per (layer, block, head): K then V.
//                 K [block_tokens / 16][unit][16], V [position unit][head size up to a multiple of
//                 16][position in the unit]. int8: behind them the scales, fp32: [block_tokens] of
//                 K, as many of V
//   latent KV     per (layer, block): rows [block_tokens][key size], the value being the first
//                 columns of the key. int8: behind them the scales, fp32: [block_tokens][2], of the
//                 value's columns and of the others
// Threads: the functions are pure; callers split the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trireme::worker::cpu {

inline constexpr uint32_t kPanelColumns = 32;
inline constexpr uint32_t kRowTileMax = 16;
inline constexpr uint32_t kUnitsPerBlock = 16;
// Units padded to whole blocks.
[[nodiscard]] constexpr uint32_t whole_blocks(uint32_t unit_count) {
  return (unit_count + kUnitsPerBlock - 1) / kUnitsPerBlock * kUnitsPerBlock;
}
inline constexpr uint32_t kHalfPanelColumns = kPanelColumns / 2;
// Units of half a panel that lie in one piece, of bf16 and int8.
inline constexpr uint32_t kHalfBlockUnits = kUnitsPerBlock * kHalfPanelColumns;
// Of bf16 and int8: where in a panel the unit of a column is.
[[nodiscard]] constexpr std::size_t unit_in_panel(uint32_t column, uint32_t unit) {
  const std::size_t half = std::size_t{unit / kUnitsPerBlock} * 2 + column / kHalfPanelColumns;
  return half * kHalfBlockUnits + unit % kUnitsPerBlock * kHalfPanelColumns +
         column % kHalfPanelColumns;
}
inline constexpr uint32_t kKvChunkTokens = 16;
// Softmax works on spans of this many positions, which are then combined in order.
inline constexpr uint32_t kAttentionSpanTokens = 256;
inline constexpr uint32_t kAttentionHeadSizeMax = 512;
// Of a latent cache; of its values as the line above. All sizes are multiples of 16.
inline constexpr uint32_t kLatentKeySizeMax = 640;
inline constexpr uint32_t kLatentHeadsMax = 16;  // In one item.

// Of a quantised row, or of one group of it: value = code · scale. A row that holds a NaN or an
// infinity has the scale NaN.
struct RowScale {
  float scale;
  int32_t sum;  // Of the codes.
};

struct MatmulPiece {
  const void* rows = nullptr;    // Packed.
  const void* panels = nullptr;  // The first.
  const float* bias = nullptr;   // Of the first panel's columns on, padded; or null.
  uint32_t unit_count = 0;       // Units along K.
  uint32_t row_count = 0;
  uint32_t rows_per_tile = 0;  // The last tile may have fewer.
  uint32_t panel_count = 0;
  float* out = nullptr;  // Of the first row and column.
  uint32_t out_stride = 0;
  uint32_t out_columns = 0;
  // Of int8 and int4.
  const RowScale* row_scales = nullptr;    // [tile][group][row]; int8 has one group.
  const float* column_scales = nullptr;    // int8: padded to whole panels.
  const uint16_t* group_scales = nullptr;  // int4: [panel][group][32], fp16, times scale_unit.
  const uint8_t* group_zeros = nullptr;    // int4: likewise; null: 8 everywhere.
  uint32_t group_count = 0;
  uint32_t group_units = 0;  // Even with int4.
  float scale_unit = 1.0F;
};

struct RowsToPack {
  const float* x = nullptr;  // The tile's first row.
  uint32_t row_stride = 0;
  uint32_t row_count = 0;  // Of this tile.
  uint32_t column_count = 0;
  uint32_t unit_count = 0;  // Of a packed row: zeros behind the columns.
  void* out = nullptr;
  // Of int8 codes: groups of group_units units, padded with zeros, and [group][row] scales.
  RowScale* scales = nullptr;
  uint32_t group_count = 0;
  uint32_t group_units = 0;
};

// The heads that share one K/V head, of neighbouring tokens of one sequence.
struct AttentionItem {
  const float* q = nullptr;  // [token_count][head_count][head_size], tokens q_stride apart.
  float* out = nullptr;      // Likewise.
  uint32_t q_stride = 0;
  uint32_t out_stride = 0;
  uint32_t token_count = 1;
  uint32_t head_count = 0;
  uint32_t head_size = 0;
  float scale = 1.0F;
  uint32_t window_tokens = 0;  // As AttentionShape.
  uint32_t position = 0;       // Of the first token: the last that it sees.
  const int32_t* blocks = nullptr;
  uint32_t block_tokens = 0;
  const std::byte* kv = nullptr;  // This layer and head in block 0.
  uint64_t block_stride = 0;      // Bytes to the same layer and head in the next block.
  float soft_cap = 0.0F;          // 0: none.
  bool is_causal = true;          // False: all tokens see what the first one does.
};

struct KvToAppend {
  const float* k = nullptr;
  const float* v = nullptr;
  uint32_t head_size = 0;
  uint32_t block_tokens = 0;
  uint32_t slot = 0;        // Token within the block.
  std::byte* kv = nullptr;  // This layer, block and head.
};

// Some heads of one token, over a latent cache.
struct LatentAttentionItem {
  const float* q = nullptr;       // [head_count][value_size]
  const float* q_rest = nullptr;  // [head_count][key_size - value_size]
  float* out = nullptr;           // [head_count][value_size]
  uint32_t head_count = 0;
  uint32_t value_size = 0;
  uint32_t key_size = 0;
  float scale = 1.0F;
  uint32_t position = 0;  // The last that the token sees.
  const int32_t* blocks = nullptr;
  uint32_t block_tokens = 0;
  const std::byte* kv = nullptr;  // This layer in block 0.
  uint64_t block_stride = 0;      // Bytes to the same layer in the next block.
};

struct LatentToAppend {
  const float* value = nullptr;
  const float* rest = nullptr;
  uint32_t value_size = 0;
  uint32_t key_size = 0;
  uint32_t block_tokens = 0;
  uint32_t slot = 0;        // Token within the block.
  std::byte* kv = nullptr;  // This layer and block.
};

struct NormRows {
  float* x = nullptr;
  const float* delta = nullptr;  // Added to x first; or null.
  const float* weight = nullptr;
  float* out = nullptr;
  uint32_t x_stride = 0;
  uint32_t delta_stride = 0;
  uint32_t out_stride = 0;
  uint32_t row_count = 0;
  uint32_t column_count = 0;
  float epsilon = 0.0F;
  const float* bias = nullptr;  // Of layer_norm, or null.
};

struct ProductKernels {
  void (*pack_rows)(const RowsToPack&);
  void (*matmul)(const MatmulPiece&);
  uint32_t row_tile = 1;
  // Rows that pass over some panels together: so many packed ones stay in the cache.
  uint32_t rows_at_once = 256;
  // Of one core, roughly; it only decides how the work is cut, as the next one does.
  double operations_per_nanosecond = 200;
  // With many rows: fewer panels a piece would leave the kernel waiting for the rows.
  uint32_t panels_at_once = 1;
};

// By the element of K and V.
struct KvKernels {
  void (*attention)(const AttentionItem&);
  void (*append)(const KvToAppend&);
  void (*attend_latent)(const LatentAttentionItem&);
  void (*append_latent)(const LatentToAppend&);
  uint32_t latent_heads = 4;  // An item has at least so many, where there are so many.
};

struct KernelTable {
  std::string_view name;
  ProductKernels fp32;
  ProductKernels bf16;
  ProductKernels int8;
  ProductKernels int4;
  KvKernels kv_fp32;
  KvKernels kv_bf16;
  KvKernels kv_int8;
  // What int4 codes of this scale lose of some weights, squared; count is a multiple of 16.
  float (*int4_error)(const float* values, uint32_t count, float scale);
  void (*rms_norm)(const NormRows&);
  void (*silu_mul)(const float* gate, const float* up, uint32_t count, float* out);
  void (*add)(float* x, const float* delta, uint32_t count);
  void (*add_scaled)(float* x, const float* delta, float factor, uint32_t count);
  void (*layer_norm)(const NormRows&);
  float (*sum_of_squares)(const float* x, uint32_t count);
  void (*multiply)(float* x, const float* by, uint32_t count);  // x *= by
  void (*scale)(float* x, float factor, uint32_t count);
  void (*silu)(float* x, uint32_t count);  // In place, as the others below.
  void (*gelu)(float* x, uint32_t count);
  void (*gelu_tanh)(float* x, uint32_t count);
  void (*soft_cap)(float* x, float cap, uint32_t count);
  void (*rotary)(float* head, const float* cosines, const float* sines, uint32_t pair_count);
};

[[nodiscard]] const KernelTable& plain_kernels();
[[nodiscard]] const KernelTable& avx2_kernels();
[[nodiscard]] const KernelTable& avx512_kernels();
[[nodiscard]] const KernelTable& amx_kernels();

}  // namespace trireme::worker::cpu
