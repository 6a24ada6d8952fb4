// CpuDevice's attention over a latent cache, and the products of each head by itself around it.
#include <algorithm>

#include "common/check.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

constexpr double kLatentElementsPerNanosecond = 20;  // Of a position of a head.

}  // namespace

void CpuDevice::append_latent(uint32_t layer, const View& value, const View& rest) {
  const KvLayout& layout = kv_.layout();
  for_ranges(value.row_count, layout.head_size / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t token = begin; token < end; ++token) {
                 const auto position = static_cast<uint32_t>(batch_->positions[token]);
                 kv_kernels().append_latent({.value = row_of(value, token),
                                             .rest = row_of(rest, token),
                                             .value_size = layout.value_size,
                                             .key_size = layout.head_size,
                                             .block_tokens = layout.block_tokens,
                                             .slot = position % layout.block_tokens,
                                             .kv = block_of(layer, 0, token)});
               }
             });
}

void CpuDevice::attend_latent(uint32_t layer, uint32_t head_count, float scale, const View& q,
                              const View& q_rest, const View& out) {
  const KvLayout& layout = kv_.layout();
  const auto attend = kv_kernels().attend_latent;
  const uint32_t rest_size = layout.head_size - layout.value_size;
  // All heads of an item read the rows together; without many tokens there are more items.
  const uint32_t all_groups = (head_count + kLatentHeadsMax - 1) / kLatentHeadsMax;
  const bool has_many = q.row_count * all_groups >= 4 * pool_.thread_count();
  const uint32_t group = has_many ? kLatentHeadsMax : kv_kernels().latent_heads;
  const uint32_t groups = (head_count + group - 1) / group;
  const auto attend_group = [&](uint32_t token, uint32_t head) {
    attend({.q = row_of(q, token) + std::size_t{head} * layout.value_size,
            .q_rest = row_of(q_rest, token) + std::size_t{head} * rest_size,
            .out = row_of(out, token) + std::size_t{head} * layout.value_size,
            .head_count = std::min(group, head_count - head),
            .value_size = layout.value_size,
            .key_size = layout.head_size,
            .scale = scale,
            .position = static_cast<uint32_t>(batch_->positions[token]),
            .blocks = batch_->rows[row_of_token_[token]].blocks.data(),
            .block_tokens = layout.block_tokens,
            .kv = kv_.head(layer, 0),
            .block_stride = kv_.block_stride()});
  };
  const double item_nanoseconds = attention_nanoseconds_ * group / kLatentElementsPerNanosecond;
  for_ranges(q.row_count * groups, 500 + item_nanoseconds, [&](uint32_t begin, uint32_t end) {
    for (uint32_t item = begin; item < end; ++item) {
      attend_group(item / groups, item % groups * group);
    }
  });
}

void CpuDevice::linear_by_head(std::span<const std::unique_ptr<LinearWeight>> heads, const View& x,
                               const View& out) {
  constexpr uint32_t kPackedBytes = 1U << 18;
  const PackedMatrix& first = matrix_of(*heads.front());
  TRIREME_CHECK(first.form == MatrixForm::kFloat32 || first.form == MatrixForm::kBfloat16,
                "what goes head by head is not quantised");
  const ProductKernels kernels = kernels_for(kernels_, first.form);
  const RowCut cut(x.row_count, kernels);
  const uint32_t row_bytes = 4 * first.unit_count;
  const uint32_t tiles_at_once = kPackedBytes / (row_bytes * cut.rows_per_tile);
  TRIREME_CHECK(tiles_at_once > 0, "a tile of a head's rows fits");
  const uint32_t rows_at_once =
      std::min(tiles_at_once * cut.rows_per_tile,
               kernels.rows_at_once / cut.rows_per_tile * cut.rows_per_tile);
  const uint32_t parts = (x.row_count + rows_at_once - 1) / rows_at_once;
  const auto run_piece = [&](uint32_t index) {
    alignas(64) std::byte packed[kPackedBytes];
    const uint32_t head = index / parts;
    const uint32_t begin = index % parts * rows_at_once;
    const View rows = x.columns(head * first.in_features, first.in_features)
                          .rows(begin, std::min(rows_at_once, x.row_count - begin));
    for (uint32_t row = 0; row < rows.row_count; row += cut.rows_per_tile) {
      kernels.pack_rows({.x = row_of(rows, row),
                         .row_stride = rows.row_stride,
                         .row_count = std::min(cut.rows_per_tile, rows.row_count - row),
                         .column_count = rows.column_count,
                         .unit_count = first.unit_count,
                         .out = packed + std::size_t{row} * row_bytes});
    }
    const View to = out.columns(head * first.out_features, first.out_features);
    kernels.matmul({.rows = packed,
                    .panels = matrix_of(*heads[head]).panels,
                    .unit_count = first.unit_count,
                    .row_count = rows.row_count,
                    .rows_per_tile = cut.rows_per_tile,
                    .panel_count = first.panel_count(),
                    .out = row_of(to, begin),
                    .out_stride = to.row_stride,
                    .out_columns = first.out_features});
  };
  const auto count = static_cast<uint32_t>(heads.size()) * parts;
  const double nanoseconds =
      panel_nanoseconds(first, kernels, std::min(rows_at_once, x.row_count)) * first.panel_count();
  for_ranges(count, nanoseconds, [&](uint32_t begin, uint32_t end) {
    for (uint32_t index = begin; index < end; ++index) run_piece(index);
  });
}

}  // namespace trireme::worker::cpu
