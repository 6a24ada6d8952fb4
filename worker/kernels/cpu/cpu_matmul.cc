// CpuDevice's matrix product: how it is cut. Neither cut touches a sum: rows and columns only.
#include <algorithm>

#include "common/check.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

// Of one core, roughly; they only decide how the work is cut.
constexpr double kWeightBytesPerNanosecond = 25;
constexpr double kPackedElementsPerNanosecond = 4;
// Long enough that claiming it costs nothing, short enough that a thread waits little for the last.
constexpr double kPieceNanoseconds = 12000;
// Below, waking another thread takes longer than it saves.
constexpr double kSharedNanoseconds = 6000;
// As many panels a kernel takes at once for one row.
constexpr uint32_t kPanelsAtOnce = 4;
// The packed rows of a block stay in the cache while all panels pass.
constexpr uint32_t kRowsPerBlock = 256;

// The panels of one row block: large pieces first, small ones at the end, so that all threads end
// at the same time.
class PanelCut {
 public:
  PanelCut(uint32_t panel_count, double panel_nanoseconds, uint32_t thread_count)
      : panel_count_(panel_count) {
    const double wanted = std::min(kPieceNanoseconds / panel_nanoseconds, 1e6);
    large_ = std::max(static_cast<uint32_t>(wanted), 1U);
    if (large_ > kPanelsAtOnce) large_ -= large_ % kPanelsAtOnce;
    small_ = std::max(large_ / kPanelsAtOnce, 1U);
    const uint32_t tail = std::min(thread_count * large_, panel_count);
    large_count_ = (panel_count - tail) / large_;
    const uint32_t rest = panel_count - large_count_ * large_;
    piece_count_ = large_count_ + (rest + small_ - 1) / small_;
  }

  [[nodiscard]] uint32_t piece_count() const { return piece_count_; }
  [[nodiscard]] uint32_t begin(uint32_t piece) const {
    const uint32_t small_before = piece > large_count_ ? piece - large_count_ : 0;
    const uint32_t panels = std::min(piece, large_count_) * large_ + small_before * small_;
    return std::min(panels, panel_count_);
  }

 private:
  uint32_t panel_count_;
  uint32_t large_;
  uint32_t small_;
  uint32_t large_count_;
  uint32_t piece_count_;
};

double panel_nanoseconds(const PackedMatrix& matrix, const ProductKernels& kernels,
                         uint32_t row_count) {
  const double operations = 2.0 * matrix.in_features * kPanelColumns * row_count;
  return std::max(static_cast<double>(matrix.panel_bytes) / kWeightBytesPerNanosecond,
                  operations / kernels.operations_per_nanosecond);
}

ProductKernels kernels_for(const KernelTable& table, MatrixForm form) {
  switch (form) {
    case MatrixForm::kFloat32:
      return table.fp32;
    case MatrixForm::kBfloat16:
      return table.bf16;
    case MatrixForm::kInt8:
      return table.int8;
    case MatrixForm::kInt4:
      return table.int4;
  }
  TRIREME_CHECK(false, "every form has its kernels");
}

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

CpuDevice::PackedRows CpuDevice::pack_rows(const PackedMatrix& matrix, const View& x,
                                           uint32_t rows_per_tile) {
  const uint64_t row_bytes = uint64_t{4} * matrix.unit_count;
  std::byte* to = grow(packed_rows_, row_bytes * x.row_count);
  auto* scales = reinterpret_cast<RowScale*>(
      grow(row_scales_, sizeof(RowScale) * x.row_count * matrix.group_count));
  const auto pack = kernels_for(kernels_, matrix.form).pack_rows;
  const auto pack_tile = [&](uint32_t tile) {
    const uint32_t row = tile * rows_per_tile;
    pack({.x = x.data + static_cast<std::size_t>(row) * x.row_stride,
          .row_stride = x.row_stride,
          .row_count = std::min(rows_per_tile, x.row_count - row),
          .column_count = x.column_count,
          .unit_count = matrix.unit_count,
          .out = to + row * row_bytes,
          .scales = scales + std::size_t{row} * matrix.group_count,
          .group_count = matrix.group_count,
          .group_units = matrix.group_units});
  };
  const uint32_t tiles = (x.row_count + rows_per_tile - 1) / rows_per_tile;
  const double elements = static_cast<double>(x.row_count) * x.column_count;
  if (elements / kPackedElementsPerNanosecond < kSharedNanoseconds) {
    for (uint32_t tile = 0; tile < tiles; ++tile) pack_tile(tile);
  } else {
    pool_.run(tiles, pack_tile);
  }
  return {to, scales};
}

void CpuDevice::linear(const LinearWeight& weight, const View& x, const View& out) {
  const PackedMatrix& matrix = static_cast<const PackedLinear&>(weight).matrix();
  TRIREME_CHECK(x.column_count == matrix.in_features && out.column_count == matrix.out_features &&
                    out.row_count == x.row_count,
                "the model gives a layer its own shapes");
  if (x.row_count == 0) return;
  const ProductKernels kernels = kernels_for(kernels_, matrix.form);
  const uint32_t tiles = (x.row_count + kernels.row_tile - 1) / kernels.row_tile;
  const uint32_t rows_per_tile = (x.row_count + tiles - 1) / tiles;
  const PackedRows rows = pack_rows(matrix, in_column_order(matrix, x), rows_per_tile);
  const MatmulPiece all{.rows = rows.units,
                        .panels = matrix.panels,
                        .bias = matrix.bias.empty() ? nullptr : matrix.bias.data(),
                        .unit_count = matrix.unit_count,
                        .row_count = x.row_count,
                        .rows_per_tile = rows_per_tile,
                        .panel_end = matrix.panel_count(),
                        .out = out.data,
                        .out_stride = out.row_stride,
                        .out_columns = out.column_count,
                        .row_scales = rows.scales,
                        .column_scales = matrix.column_scales,
                        .group_scales = matrix.group_scales,
                        .group_zeros = matrix.group_zeros,
                        .group_count = matrix.group_count,
                        .group_units = matrix.group_units,
                        .scale_unit = matrix.scale_unit};
  if (panel_nanoseconds(matrix, kernels, x.row_count) * all.panel_end < kSharedNanoseconds) {
    return kernels.matmul(all);
  }
  const uint32_t blocks = (x.row_count + kRowsPerBlock - 1) / kRowsPerBlock;
  const uint32_t block_rows = (tiles + blocks - 1) / blocks * rows_per_tile;
  const PanelCut cut(all.panel_end,
                     panel_nanoseconds(matrix, kernels, std::min(block_rows, x.row_count)),
                     pool_.thread_count());
  pool_.run(blocks * cut.piece_count(), [&](uint32_t index) {
    const uint32_t row = index / cut.piece_count() * block_rows;
    const uint32_t panels = index % cut.piece_count();
    MatmulPiece piece = all;
    piece.rows = static_cast<const std::byte*>(all.rows) + uint64_t{4} * all.unit_count * row;
    piece.row_scales += std::size_t{row} * all.group_count;
    piece.out += static_cast<std::size_t>(row) * all.out_stride;
    piece.row_count = std::min(block_rows, all.row_count - row);
    piece.panel_begin = cut.begin(panels);
    piece.panel_end = cut.begin(panels + 1);
    kernels.matmul(piece);
  });
}

}  // namespace trireme::worker::cpu
