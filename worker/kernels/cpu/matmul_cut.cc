#include "worker/kernels/cpu/matmul_cut.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::worker::cpu {
namespace {

// Of one core, roughly; it only decides how the work is cut.
constexpr double kWeightBytesPerNanosecond = 25;
// Long enough that claiming it costs nothing, short enough that a thread waits little for the last.
constexpr double kPieceNanoseconds = 12000;
// As many panels a kernel takes at once for one row; two are nearly as good, one is not.
constexpr uint32_t kPanelsAtOnce = 4;

uint32_t parts(uint32_t count, uint32_t size) { return (count + size - 1) / size; }

}  // namespace

RowCut::RowCut(uint32_t rows, const ProductKernels& kernels)
    : row_count(rows),
      tile_count(parts(rows, kernels.row_tile)),
      rows_per_tile(parts(rows, tile_count)),
      block_count(parts(rows, kernels.rows_at_once)),
      rows_per_block(parts(tile_count, block_count) * rows_per_tile) {
  // Tiles of fewer rows than row_tile may need one block more.
  block_count = parts(rows, rows_per_block);
}

PanelCut::PanelCut(uint32_t panel_count, double panel_nanoseconds, uint32_t panels_min,
                   uint32_t thread_count)
    : panel_count_(panel_count) {
  const double wanted = std::min(kPieceNanoseconds / panel_nanoseconds, 1e6);
  large_ = std::max(static_cast<uint32_t>(wanted), panels_min);
  if (large_ > kPanelsAtOnce) {
    large_ -= large_ % kPanelsAtOnce;
  } else if (large_ > 1) {
    large_ += large_ % 2;
  }
  small_ = std::max({large_ / kPanelsAtOnce, panels_min / 2, std::min(large_, 2U)});
  const uint32_t tail = std::min(thread_count * large_, panel_count);
  large_count_ = (panel_count - tail) / large_;
  const uint32_t rest = panel_count - large_count_ * large_;
  piece_count_ = large_count_ + parts(rest, small_);
}

uint32_t PanelCut::begin(uint32_t piece) const {
  const uint32_t small_before = piece > large_count_ ? piece - large_count_ : 0;
  const uint32_t panels = std::min(piece, large_count_) * large_ + small_before * small_;
  return std::min(panels, panel_count_);
}

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

MatmulPiece whole_product(const PackedMatrix& matrix, const PackedRows& rows, const RowCut& cut,
                          float* out, uint32_t out_stride) {
  return {.rows = rows.units,
          .panels = matrix.panels,
          .bias = matrix.bias.empty() ? nullptr : matrix.bias.data(),
          .unit_count = matrix.unit_count,
          .row_count = cut.row_count,
          .rows_per_tile = cut.rows_per_tile,
          .panel_count = matrix.panel_count(),
          .out = out,
          .out_stride = out_stride,
          .out_columns = matrix.out_features,
          .row_scales = rows.scales,
          .column_scales = matrix.column_scales,
          .group_scales = matrix.group_scales,
          .group_zeros = matrix.group_zeros,
          .group_count = matrix.group_count,
          .group_units = matrix.group_units,
          .scale_unit = matrix.scale_unit};
}

MatmulPiece rows_of(MatmulPiece piece, uint32_t begin, uint32_t end) {
  piece.rows = static_cast<const uint32_t*>(piece.rows) + uint64_t{piece.unit_count} * begin;
  if (piece.row_scales != nullptr) piece.row_scales += std::size_t{begin} * piece.group_count;
  if (piece.out != nullptr) piece.out += std::size_t{begin} * piece.out_stride;
  piece.row_count = end - begin;
  return piece;
}

MatmulPiece panels_of(MatmulPiece piece, const PackedMatrix& matrix, uint32_t begin, uint32_t end) {
  const std::size_t column = std::size_t{begin} * kPanelColumns;
  piece.panels = matrix.panels + matrix.panel_bytes * begin;
  if (piece.bias != nullptr) piece.bias += column;
  if (piece.column_scales != nullptr) piece.column_scales += column;
  if (piece.group_scales != nullptr) piece.group_scales += column * piece.group_count;
  if (piece.group_zeros != nullptr) piece.group_zeros += column * piece.group_count;
  piece.panel_count = end - begin;
  if (piece.out != nullptr) piece.out += column;
  piece.out_columns -= static_cast<uint32_t>(column);
  return piece;
}

}  // namespace trireme::worker::cpu
