#include "worker/kernels/cpu/amx_attention_body.h"
#include "worker/kernels/cpu/amx_int4_body.h"
#include "worker/kernels/cpu/amx_latent_body.h"
#include "worker/kernels/cpu/amx_matmul_body.h"
#include "worker/kernels/cpu/vector_table_body.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint32_t kRowTile = kTileRowsMax;
constexpr uint32_t kVectorRowTile = 12;

constexpr KernelTable tile_kernels() {
  KernelTable table = common_kernels<kVectorRowTile>("amx");
  table.bf16 = {.pack_rows = pack_bf16_tile,
                .matmul = tile_matmul<Bf16Tiles>,
                .row_tile = kRowTile,
                .rows_at_once = kRowsAtOnce,
                .operations_per_nanosecond = 2000,
                .panels_at_once = kTilePanelsAtOnce};
  table.int8 = {.pack_rows = quantize_rows<TiledRows>,
                .matmul = tile_matmul<Int8Tiles>,
                .row_tile = kRowTile,
                .rows_at_once = kRowsAtOnce,
                .operations_per_nanosecond = 4000,
                .panels_at_once = kTilePanelsAtOnce};
  table.int4 = {.pack_rows = quantize_rows<TiledRows>,
                .matmul = tile_matmul_int4<kVectorRowTile>,
                .row_tile = kRowTile,
                .operations_per_nanosecond = 1500};
  table.kv_bf16 = kv_kernels<Bf16Kv>(tile_attention);
  table.kv_bf16.attend_latent = tile_attend_latent;
  table.kv_bf16.latent_heads = kTileRowsMax;
  return table;
}

constexpr KernelTable kTable = tile_kernels();
static_assert(kRowTile <= kRowTileMax && kTileUnits == cpu::kUnitsPerBlock);

}  // namespace

const KernelTable& amx_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
