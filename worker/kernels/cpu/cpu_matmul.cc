// CpuDevice's matrix product: how it is cut. Neither cut touches a sum: rows and columns only.
#include <algorithm>

#include "common/check.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

// Of one core, roughly; they only decide how the work is cut.
constexpr double kWeightBytesPerNanosecond = 25;
constexpr double kOperationsPerNanosecond = 200;
constexpr double kPackedElementsPerNanosecond = 4;
// Long enough that claiming it costs nothing, short enough that a thread waits little for the last.
constexpr double kPieceNanoseconds = 12000;
// Below, waking another thread takes longer than it saves.
constexpr double kSharedNanoseconds = 6000;
// As many panels a kernel takes at once for one row.
constexpr uint32_t kPanelsAtOnce = 4;
// Whole tiles of 12 and of fewer. The packed rows of a block stay in the cache while all panels
// pass.
constexpr uint32_t kRowsPerBlock = 240;

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

double panel_nanoseconds(const PackedLinear& matrix, uint32_t row_count) {
  const double weights = static_cast<double>(matrix.in_features()) * kPanelColumns;
  return std::max(
      weights * static_cast<double>(element_bytes(matrix.element())) / kWeightBytesPerNanosecond,
      weights * 2 * row_count / kOperationsPerNanosecond);
}

}  // namespace

const void* CpuDevice::pack_rows(const PackedLinear& weight, const View& x,
                                 uint32_t rows_per_tile) {
  const uint64_t row_bytes = uint64_t{4} * weight.unit_count();
  std::byte* to = grow(packed_rows_, row_bytes * x.row_count);
  const auto pack = kernels_of(weight.element()).pack_rows;
  const auto pack_tile = [&](uint32_t tile) {
    const uint32_t row = tile * rows_per_tile;
    pack({.x = x.data + static_cast<std::size_t>(row) * x.row_stride,
          .row_stride = x.row_stride,
          .row_count = std::min(rows_per_tile, x.row_count - row),
          .column_count = x.column_count,
          .out = to + row * row_bytes});
  };
  const uint32_t tiles = (x.row_count + rows_per_tile - 1) / rows_per_tile;
  const double elements = static_cast<double>(x.row_count) * x.column_count;
  if (elements / kPackedElementsPerNanosecond < kSharedNanoseconds) {
    for (uint32_t tile = 0; tile < tiles; ++tile) pack_tile(tile);
  } else {
    pool_.run(tiles, pack_tile);
  }
  return to;
}

void CpuDevice::linear(const LinearWeight& weight, const View& x, const View& out) {
  const auto& matrix = static_cast<const PackedLinear&>(weight);
  TRIREME_CHECK(x.column_count == matrix.in_features() &&
                    out.column_count == matrix.out_features() && out.row_count == x.row_count,
                "the model gives a layer its own shapes");
  if (x.row_count == 0) return;
  const uint32_t tiles = (x.row_count + kernels_.row_tile - 1) / kernels_.row_tile;
  const uint32_t rows_per_tile = (x.row_count + tiles - 1) / tiles;
  const MatmulPiece all{.rows = pack_rows(matrix, x, rows_per_tile),
                        .panels = matrix.panels(),
                        .bias = matrix.bias(),
                        .unit_count = matrix.unit_count(),
                        .row_count = x.row_count,
                        .rows_per_tile = rows_per_tile,
                        .panel_end = matrix.panel_count(),
                        .out = out.data,
                        .out_stride = out.row_stride,
                        .out_columns = out.column_count};
  const auto matmul = kernels_of(matrix.element()).matmul;
  if (panel_nanoseconds(matrix, x.row_count) * all.panel_end < kSharedNanoseconds) {
    return matmul(all);
  }
  const uint32_t block_rows = kRowsPerBlock / rows_per_tile * rows_per_tile;
  const uint32_t blocks = (x.row_count + block_rows - 1) / block_rows;
  const PanelCut cut(all.panel_end, panel_nanoseconds(matrix, std::min(block_rows, x.row_count)),
                     pool_.thread_count());
  pool_.run(blocks * cut.piece_count(), [&](uint32_t index) {
    const uint32_t row = index / cut.piece_count() * block_rows;
    const uint32_t panels = index % cut.piece_count();
    MatmulPiece piece = all;
    piece.rows = static_cast<const std::byte*>(all.rows) + uint64_t{4} * all.unit_count * row;
    piece.out += static_cast<std::size_t>(row) * all.out_stride;
    piece.row_count = std::min(block_rows, all.row_count - row);
    piece.panel_begin = cut.begin(panels);
    piece.panel_end = cut.begin(panels + 1);
    matmul(piece);
  });
}

}  // namespace trireme::worker::cpu
