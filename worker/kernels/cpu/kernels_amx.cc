#include "worker/kernels/cpu/activation_body.h"
#include "worker/kernels/cpu/amx_attention_body.h"
#include "worker/kernels/cpu/amx_int4_body.h"
#include "worker/kernels/cpu/amx_matmul_body.h"
#include "worker/kernels/cpu/attention_body.h"
#include "worker/kernels/cpu/int4_error_body.h"
#include "worker/kernels/cpu/integer_matmul_body.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/kv_body.h"
#include "worker/kernels/cpu/layer_norm_body.h"
#include "worker/kernels/cpu/matmul_body.h"
#include "worker/kernels/cpu/quantize_rows_body.h"
#include "worker/kernels/cpu/row_body.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint32_t kRowTile = kTileRowsMax;
// As many rows as the vector registers hold sums for.
constexpr uint32_t kVectorRowTile = 12;

constexpr KernelTable kTable = {
    .name = "amx",
    .fp32 = {.pack_rows = pack_rows<Fp32Product>,
             .matmul = matmul<Fp32Product, kVectorRowTile>,
             .row_tile = kVectorRowTile},
    .bf16 = {.pack_rows = pack_bf16_tile,
             .matmul = tile_matmul<Bf16Tiles>,
             .row_tile = kRowTile,
             .rows_at_once = kRowsAtOnce,
             .operations_per_nanosecond = 2000,
             .panels_at_once = kTilePanelsAtOnce},
    .int8 = {.pack_rows = quantize_rows<TiledRows>,
             .matmul = tile_matmul<Int8Tiles>,
             .row_tile = kRowTile,
             .rows_at_once = kRowsAtOnce,
             .operations_per_nanosecond = 4000,
             .panels_at_once = kTilePanelsAtOnce},
    .int4 = {.pack_rows = quantize_rows<TiledRows>,
             .matmul = tile_matmul_int4<kVectorRowTile>,
             .row_tile = kRowTile,
             .operations_per_nanosecond = 1500},
    .kv_fp32 = {.attention = attention<Fp32Kv>, .append = append_kv<Fp32Kv>},
    .kv_bf16 = {.attention = tile_attention, .append = append_kv<Bf16Kv>},
    .kv_int8 = {.attention = attention<Int8Kv>, .append = append_kv<Int8Kv>},
    .int4_error = int4_error,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .add = add,
    .layer_norm = layer_norm,
    .sum_of_squares = sum_of_squares,
    .multiply = multiply,
    .scale = scale,
    .silu = silu,
    .gelu = gelu,
    .gelu_tanh = gelu_tanh,
    .soft_cap = soft_cap,
    .rotary = rotary,
};
static_assert(kRowTile <= kRowTileMax && kTileUnits == cpu::kUnitsPerBlock);

}  // namespace

const KernelTable& amx_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
