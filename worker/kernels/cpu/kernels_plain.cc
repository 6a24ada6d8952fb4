#include "worker/kernels/cpu/activation_body.h"
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

// As many rows as the registers hold sums for.
constexpr uint32_t kRowTile = 2;

constexpr KernelTable kTable = {
    .name = "plain",
    .fp32 = {.pack_rows = pack_rows<Fp32Product>,
             .matmul = matmul<Fp32Product, kRowTile>,
             .row_tile = kRowTile},
    .bf16 = {.pack_rows = pack_rows<Bf16Product>,
             .matmul = matmul<Bf16Product, kRowTile>,
             .row_tile = kRowTile},
    .int8 = {.pack_rows = quantize_rows<UnitMajorRows>,
             .matmul = matmul<Int8Product, kRowTile>,
             .row_tile = kRowTile,
             .operations_per_nanosecond = 400},
    .int4 = {.pack_rows = quantize_rows<UnitMajorRows>,
             .matmul = matmul<Int4Product, kRowTile>,
             .row_tile = kRowTile,
             .operations_per_nanosecond = 400},
    .kv_fp32 = {.attention = attention<Fp32Kv>, .append = append_kv<Fp32Kv>},
    .kv_bf16 = {.attention = attention<Bf16Kv>, .append = append_kv<Bf16Kv>},
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
static_assert(kRowTile <= kRowTileMax);

}  // namespace

const KernelTable& plain_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
