// How a matrix product is cut into pieces for the threads, and what a piece is. Neither cut touches
// a sum: rows and columns only. Threads: pure.
#pragma once

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/packed_linear.h"

namespace trireme::worker::cpu {

[[nodiscard]] ProductKernels kernels_for(const KernelTable& table, MatrixForm form);

// Tiles of about equal size, as few as the kernel allows, and blocks of whole tiles: the packed
// rows of a block stay in the cache while all panels pass.
struct RowCut {
  RowCut(uint32_t row_count, const ProductKernels& kernels);

  [[nodiscard]] uint32_t block_begin(uint32_t block) const {
    return block * rows_per_block < row_count ? block * rows_per_block : row_count;
  }
  [[nodiscard]] uint32_t tile_rows(uint32_t row) const {
    return row_count - row < rows_per_tile ? row_count - row : rows_per_tile;
  }

  uint32_t row_count;
  uint32_t tile_count;
  uint32_t rows_per_tile;
  uint32_t block_count;
  uint32_t rows_per_block;
};

// The panels of one row block: large pieces first, small ones at the end, so that all threads end
// at the same time.
class PanelCut {
 public:
  // A large piece has panels_min at least, a small one half as many.
  PanelCut(uint32_t panel_count, double panel_nanoseconds, uint32_t panels_min,
           uint32_t thread_count);

  [[nodiscard]] uint32_t piece_count() const { return piece_count_; }
  [[nodiscard]] uint32_t begin(uint32_t piece) const;

 private:
  uint32_t panel_count_;
  uint32_t large_;
  uint32_t small_;
  uint32_t large_count_;
  uint32_t piece_count_;
};

// What a panel takes one core, about.
[[nodiscard]] double panel_nanoseconds(const PackedMatrix& matrix, const ProductKernels& kernels,
                                       uint32_t row_count);
// Below, waking another thread takes longer than it saves.
inline constexpr double kSharedNanoseconds = 6000;

struct PackedRows {
  const void* units = nullptr;
  const RowScale* scales = nullptr;  // Of the quantised forms.
};

// All of the product; out has out_stride floats from row to row.
[[nodiscard]] MatmulPiece whole_product(const PackedMatrix& matrix, const PackedRows& rows,
                                        const RowCut& cut, float* out, uint32_t out_stride);
// Rows from `begin` on, a multiple of the tile's; out becomes that row's.
[[nodiscard]] MatmulPiece rows_of(MatmulPiece piece, uint32_t begin, uint32_t end);
// Panels from `begin` on; out becomes that of the first one's first column.
[[nodiscard]] MatmulPiece panels_of(MatmulPiece piece, const PackedMatrix& matrix, uint32_t begin,
                                    uint32_t end);

}  // namespace trireme::worker::cpu
