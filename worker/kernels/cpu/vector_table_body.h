// A kernel table on vectors. See vec.h for who may include it.
//
// row_tile: as many rows as the registers hold sums for.
#pragma once

#include "worker/kernels/cpu/activation_body.h"
#include "worker/kernels/cpu/attention_body.h"
#include "worker/kernels/cpu/int4_error_body.h"
#include "worker/kernels/cpu/integer_matmul_body.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/kv_body.h"
#include "worker/kernels/cpu/latent_attention_body.h"
#include "worker/kernels/cpu/layer_norm_body.h"
#include "worker/kernels/cpu/matmul_body.h"
#include "worker/kernels/cpu/quantize_rows_body.h"
#include "worker/kernels/cpu/row_body.h"

namespace trireme::worker {
namespace {

template <typename Kv>
constexpr cpu::KvKernels kv_kernels(void (*attention)(const AttentionItem&)) {
  using Element = typename Kv::Element;
  return {.attention = attention,
          .append = append_kv<Kv>,
          .attend_latent = attend_latent<Element>,
          .append_latent = append_latent<Element>};
}

// What has no better form than vectors; the rest is not there.
template <uint32_t row_tile>
constexpr cpu::KernelTable common_kernels(std::string_view name) {
  static_assert(row_tile <= cpu::kRowTileMax);
  cpu::KernelTable table{};
  table.name = name;
  table.fp32 = {.pack_rows = pack_rows<Fp32Product>,
                .matmul = matmul<Fp32Product, row_tile>,
                .row_tile = row_tile};
  table.kv_fp32 = kv_kernels<Fp32Kv>(attention<Fp32Kv>);
  table.kv_int8 = kv_kernels<Int8Kv>(attention<Int8Kv>);
  table.int4_error = int4_error;
  table.rms_norm = rms_norm;
  table.silu_mul = silu_mul;
  table.add = add;
  table.add_scaled = add_scaled;
  table.layer_norm = layer_norm;
  table.sum_of_squares = sum_of_squares;
  table.multiply = multiply;
  table.scale = scale;
  table.silu = silu;
  table.gelu = gelu;
  table.gelu_tanh = gelu_tanh;
  table.soft_cap = soft_cap;
  table.rotary = rotary;
  return table;
}

template <uint32_t row_tile>
constexpr cpu::KernelTable vector_kernels(std::string_view name) {
  cpu::KernelTable table = common_kernels<row_tile>(name);
  table.bf16 = {.pack_rows = pack_rows<Bf16Product>,
                .matmul = matmul<Bf16Product, row_tile>,
                .row_tile = row_tile};
  table.int8 = {.pack_rows = quantize_rows<UnitMajorRows>,
                .matmul = matmul<Int8Product, row_tile>,
                .row_tile = row_tile,
                .operations_per_nanosecond = 400};
  table.int4 = {.pack_rows = quantize_rows<UnitMajorRows>,
                .matmul = matmul<Int4Product, row_tile>,
                .row_tile = row_tile,
                .operations_per_nanosecond = 400};
  table.kv_bf16 = kv_kernels<Bf16Kv>(attention<Bf16Kv>);
  return table;
}

}  // namespace
}  // namespace trireme::worker
