// CpuDevice's matrix product, over the threads.
#include <algorithm>

#include "common/check.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

constexpr double kPackedElementsPerNanosecond = 4;

}  // namespace

View CpuDevice::in_column_order(const PackedMatrix& matrix, const View& x) {
  if (matrix.column_order.empty()) return x;
  const auto columns = static_cast<uint32_t>(matrix.column_order.size());
  const View ordered = own_scratch(kOrderedColumns, x.row_count, columns);
  pool_.run(x.row_count, [&](uint32_t row) {
    const float* from = x.data + static_cast<std::size_t>(row) * x.row_stride;
    float* to = ordered.data + static_cast<std::size_t>(row) * ordered.row_stride;
    for (uint32_t i = 0; i < columns; ++i) {
      const int32_t column = matrix.column_order[i];
      to[i] = column < 0 ? 0.0F : from[column];
    }
  });
  return ordered;
}

PackedRows CpuDevice::pack_rows(const PackedMatrix& matrix, const View& x, const RowCut& cut) {
  const uint64_t row_bytes = uint64_t{4} * matrix.unit_count;
  std::byte* to = grow(packed_rows_, row_bytes * x.row_count);
  auto* scales = reinterpret_cast<RowScale*>(
      grow(row_scales_, sizeof(RowScale) * x.row_count * matrix.group_count));
  const auto pack = kernels_for(kernels_, matrix.form).pack_rows;
  const auto pack_tile = [&](uint32_t tile) {
    const uint32_t row = tile * cut.rows_per_tile;
    pack({.x = x.data + static_cast<std::size_t>(row) * x.row_stride,
          .row_stride = x.row_stride,
          .row_count = cut.tile_rows(row),
          .column_count = x.column_count,
          .unit_count = matrix.unit_count,
          .out = to + row * row_bytes,
          .scales = scales + std::size_t{row} * matrix.group_count,
          .group_count = matrix.group_count,
          .group_units = matrix.group_units});
  };
  const double elements = static_cast<double>(x.row_count) * x.column_count;
  if (elements / kPackedElementsPerNanosecond < kSharedNanoseconds) {
    for (uint32_t tile = 0; tile < cut.tile_count; ++tile) pack_tile(tile);
  } else {
    pool_.run(cut.tile_count, pack_tile);
  }
  return {to, scales};
}

void CpuDevice::linear(const LinearWeight& weight, const View& x, const View& out) {
  const PackedMatrix& matrix = matrix_of(weight);
  TRIREME_CHECK(x.column_count == matrix.in_features && out.row_count == x.row_count,
                "the model gives a layer its own shapes");
  if (x.row_count == 0) return;
  const RowCut cut(x.row_count, kernels_for(kernels_, matrix.form));
  multiply(matrix, pack_rows(matrix, in_column_order(matrix, x), cut), cut, out);
}

void CpuDevice::multiply(const PackedMatrix& matrix, const PackedRows& rows, const RowCut& cut,
                         const View& out) {
  TRIREME_CHECK(out.column_count == matrix.out_features, "the model gives a layer its own shapes");
  const ProductKernels kernels = kernels_for(kernels_, matrix.form);
  const MatmulPiece all = whole_product(matrix, rows, cut, out.data, out.row_stride);
  if (panel_nanoseconds(matrix, kernels, cut.row_count) * all.panel_count < kSharedNanoseconds) {
    return kernels.matmul(all);
  }
  const uint32_t block_rows = std::min(cut.rows_per_block, cut.row_count);
  const PanelCut panels(all.panel_count, panel_nanoseconds(matrix, kernels, block_rows),
                        cut.tile_count > 2 ? kernels.panels_at_once : 1, pool_.thread_count());
  // The blocks of some panels one after the other: the later ones find them in the cache.
  pool_.run(cut.block_count * panels.piece_count(), [&](uint32_t index) {
    const uint32_t block = index % cut.block_count;
    const uint32_t piece = index / cut.block_count;
    kernels.matmul(rows_of(panels_of(all, matrix, panels.begin(piece), panels.begin(piece + 1)),
                           cut.block_begin(block), cut.block_begin(block + 1)));
  });
}

}  // namespace trireme::worker::cpu
