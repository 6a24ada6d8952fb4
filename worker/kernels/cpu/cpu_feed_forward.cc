// CpuDevice's feed-forward block: up, activation and down.
//
// The halves of gate and up that belong together are computed, multiplied and, where down's packed
// rows are rounded value by value, packed while they are in the cache: the widest activations of a
// model never go through memory.
#include <algorithm>

#include "common/check.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

// Of gate and of up in a piece: 256 KiB each.
constexpr uint32_t kValuesAtOnce = 1U << 16;
constexpr uint32_t kPanelsAtOnce = 4;

bool rounds_value_by_value(MatrixForm form) {
  return form == MatrixForm::kFloat32 || form == MatrixForm::kBfloat16;
}

}  // namespace

void CpuDevice::feed_forward(Activation activation, const LinearWeight& gate_up,
                             const LinearWeight& down, const View& x, const View& out) {
  const uint32_t columns = down.in_features();
  if (gate_up.out_features() == columns) {
    const View activated = own_scratch(kActivated, x.row_count, columns);
    linear(gate_up, x, activated);
    activate(activation, activated);
    return linear(down, activated, out);
  }
  TRIREME_CHECK(gate_up.out_features() == 2 * columns, "gate and up are as wide as down takes");
  const PackedMatrix& matrix = matrix_of(gate_up);
  if (columns % kPanelColumns != 0) {
    // Gate and up share a panel.
    const View both = own_scratch(kGateUp, x.row_count, 2 * columns);
    const View activated = own_scratch(kActivated, x.row_count, columns);
    linear(gate_up, x, both);
    pool_.run(x.row_count, [&](uint32_t row) {
      const float* gate = both.data + static_cast<std::size_t>(row) * both.row_stride;
      multiply_activated(activation, gate, gate + columns, columns,
                         activated.data + static_cast<std::size_t>(row) * activated.row_stride);
    });
    return linear(down, activated, out);
  }
  const RowCut cut(x.row_count, kernels_for(kernels_, matrix.form));
  const PackedRows rows = pack_rows(matrix, in_column_order(matrix, x), cut);
  const PackedMatrix& next = matrix_of(down);
  if (rounds_value_by_value(next.form) && next.form == matrix.form) {
    std::byte* const packed = grow(packed_activated_, uint64_t{4} * next.unit_count * x.row_count);
    multiply_gated(activation, matrix, rows, cut, [&](uint32_t row, const View& part, uint32_t at) {
      pack_columns(next, part, cut, row, at, packed);
    });
    return multiply(next, {.units = packed}, cut, out);
  }
  const View activated = own_scratch(kActivated, x.row_count, columns);
  multiply_gated(activation, matrix, rows, cut, [&](uint32_t row, const View& part, uint32_t at) {
    for (uint32_t i = 0; i < part.row_count; ++i) {
      std::copy_n(part.data + static_cast<std::size_t>(i) * part.row_stride, part.column_count,
                  activated.data + static_cast<std::size_t>(row + i) * activated.row_stride + at);
    }
  });
  linear(down, activated, out);
}

void CpuDevice::multiply_activated(Activation activation, const float* gate, const float* up,
                                   uint32_t count, float* out) const {
  if (activation == Activation::kSilu) return kernels_.silu_mul(gate, up, count, out);
  std::copy_n(gate, count, out);
  kernel_of(activation)(out, count);
  kernels_.multiply(out, up, count);
}

// take(row, part, column): the product of some rows and columns, from (row, column) on.
template <typename Take>
void CpuDevice::multiply_gated(Activation activation, const PackedMatrix& matrix,
                               const PackedRows& rows, const RowCut& cut, const Take& take) {
  const ProductKernels kernels = kernels_for(kernels_, matrix.form);
  const uint32_t panels_each = matrix.panel_count() / 2;
  const uint32_t block_rows = std::min(cut.rows_per_block, cut.row_count);
  const uint32_t step = std::clamp(kValuesAtOnce / kPanelColumns / block_rows, 1U, kPanelsAtOnce);
  const uint32_t stride = step * kPanelColumns;
  TRIREME_CHECK(block_rows * stride <= kValuesAtOnce, "a block of rows fits");
  const MatmulPiece all = whole_product(matrix, rows, cut, nullptr, stride);
  const auto run_part = [&](uint32_t row, uint32_t row_end, uint32_t panel, uint32_t panel_end) {
    alignas(64) float gate[kValuesAtOnce];
    alignas(64) float up[kValuesAtOnce];
    const MatmulPiece part = rows_of(all, row, row_end);
    const auto multiply_into = [&](float* to, uint32_t first_panel) {
      MatmulPiece piece = panels_of(part, matrix, first_panel, first_panel + panel_end - panel);
      piece.out = to;
      kernels.matmul(piece);
    };
    multiply_into(gate, panel);
    multiply_into(up, panels_each + panel);
    const uint32_t columns = (panel_end - panel) * kPanelColumns;
    for (uint32_t i = 0; i < row_end - row; ++i) {
      multiply_activated(activation, gate + i * stride, up + i * stride, columns,
                         gate + i * stride);
    }
    take(row, View{gate, row_end - row, columns, stride}, panel * kPanelColumns);
  };
  const double nanoseconds = 2 * panel_nanoseconds(matrix, kernels, block_rows);
  const PanelCut panels(panels_each, nanoseconds, cut.tile_count > 2 ? kernels.panels_at_once : 1,
                        pool_.thread_count());
  const auto run_piece = [&](uint32_t index) {
    const uint32_t block = index % cut.block_count;
    const uint32_t piece = index / cut.block_count;
    const uint32_t end = panels.begin(piece + 1);
    for (uint32_t panel = panels.begin(piece); panel < end; panel += step) {
      run_part(cut.block_begin(block), cut.block_begin(block + 1), panel,
               std::min(panel + step, end));
    }
  };
  const uint32_t pieces = cut.block_count * panels.piece_count();
  if (nanoseconds * panels_each * cut.block_count < kSharedNanoseconds) {
    for (uint32_t index = 0; index < pieces; ++index) run_piece(index);
  } else {
    pool_.run(pieces, run_piece);
  }
}

// Whole panels' columns from `column` on, of whole tiles of rows from `row` on, into the packed
// rows of all columns.
void CpuDevice::pack_columns(const PackedMatrix& matrix, const View& part, const RowCut& cut,
                             uint32_t row, uint32_t column, std::byte* packed) const {
  const uint64_t row_bytes = uint64_t{4} * matrix.unit_count;
  const uint32_t unit_columns = matrix.form == MatrixForm::kBfloat16 ? 2 : 1;
  for (uint32_t i = 0; i < part.row_count; i += cut.rows_per_tile) {
    const uint32_t tile_rows = cut.tile_rows(row + i);
    kernels_for(kernels_, matrix.form)
        .pack_rows({.x = part.data + static_cast<std::size_t>(i) * part.row_stride,
                    .row_stride = part.row_stride,
                    .row_count = tile_rows,
                    .column_count = part.column_count,
                    .unit_count = part.column_count / unit_columns,
                    .out = packed + row_bytes * (row + i) +
                           uint64_t{4} * (column / unit_columns) * tile_rows});
  }
}

}  // namespace trireme::worker::cpu
