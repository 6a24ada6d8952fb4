#include "worker/kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cpu {
namespace {

// A thread that spins takes a piece within a microsecond; shorter pieces would cost more than they
// give.
constexpr double kPieceNanoseconds = 8000;
constexpr uint32_t kPiecesPerThread = 16;
// Of one core, roughly; they only decide how the work is cut.
constexpr double kKvElementsPerNanosecond = 8;
// Tokens of one sequence whose attention is one piece of work.
constexpr uint32_t kRunTokensMax = 16;

const FloatVector& vector_of(const VectorWeight& weight) {
  return static_cast<const FloatVector&>(weight);
}

}  // namespace

uint32_t CpuDevice::piece_count_for(double nanoseconds, uint32_t pieces_max) const {
  const double wanted = std::min(nanoseconds / kPieceNanoseconds,
                                 static_cast<double>(pool_.thread_count()) * kPiecesPerThread);
  return std::clamp(static_cast<uint32_t>(wanted), 1U, std::max(pieces_max, 1U));
}

StatusOr<std::unique_ptr<LinearWeight>> CpuDevice::load_linear(const LinearSource& source) {
  if (!source.is_apart) return pack(source, weight_memory_);
  HostArena memory(/*region_bytes=*/0);
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> weight, pack(source, memory));
  weight->keep(std::move(memory));
  return weight;
}

StatusOr<std::unique_ptr<PackedLinear>> CpuDevice::pack(const LinearSource& source,
                                                        HostArena& memory) {
  const MatrixForm form = form_of(source, element_, on_load_);
  if (form == MatrixForm::kInt8) return pack_int8(source, element_, pool_, memory);
  if (form == MatrixForm::kInt4) {
    return pack_int4(source, element_, kernels_.int4_error, pool_, memory);
  }
  return pack_linear(source, element_, pool_, memory);
}

StatusOr<std::unique_ptr<VectorWeight>> CpuDevice::load_vector(const VectorSource& source) {
  const Element element = source.keeps_precision ? Element::kFloat32 : element_;
  return FloatVector::load(source, element, weight_memory_);
}

StatusOr<std::unique_ptr<EmbeddingWeight>> CpuDevice::load_embedding(const MatrixSlice& table) {
  if (table.quantized != nullptr) {
    return error(StatusCode::kUnimplemented,
                 "%s: an embedding table that is quantised is not supported",
                 table.quantized->name());
  }
  return std::unique_ptr<EmbeddingWeight>(std::make_unique<MappedEmbedding>(table, element_));
}

std::unique_ptr<EmbeddingWeight> CpuDevice::embedding_of(const LinearWeight& matrix) const {
  const PackedMatrix& packed = matrix_of(matrix);
  // Codes of int8 and int4 are not the numbers of the checkpoint.
  const bool is_exact = packed.form == MatrixForm::kFloat32 || packed.form == MatrixForm::kBfloat16;
  return is_exact ? std::make_unique<PackedEmbedding>(packed) : nullptr;
}

uint64_t CpuDevice::kv_block_bytes(const KvLayout& layout) const {
  return KvMemory::block_bytes(layout);
}

Status CpuDevice::allocate_kv(const KvLayout& layout, uint32_t block_count) {
  TRIREME_ASSIGN_OR_RETURN(kv_, KvMemory::allocate(layout, block_count));
  return absl::OkStatus();
}

void CpuDevice::begin_step(const ForwardBatch& batch, const RotaryAngles& angles) {
  batch_ = &batch;
  angles_ = angles;
  failure_ = absl::OkStatus();
  row_of_token_.resize(batch.tokens.size());
  runs_.clear();
  double positions = 0;
  for (uint32_t row = 0; row < batch.rows.size(); ++row) {
    const ForwardRow& part = batch.rows[row];
    std::fill_n(row_of_token_.begin() + part.token_begin, part.token_count, row);
    for (uint32_t i = 0; i < part.token_count; i += kRunTokensMax) {
      runs_.push_back({part.token_begin + i, std::min(kRunTokensMax, part.token_count - i)});
    }
    positions += part.token_count * (part.start + part.token_count * 0.5);
  }
  const auto tokens = static_cast<double>(std::max<std::size_t>(batch.tokens.size(), 1));
  attention_nanoseconds_ =
      positions / tokens * 2 * kv_.layout().head_size / kKvElementsPerNanosecond;
}

Status CpuDevice::end_step() {
  batch_ = nullptr;
  return failure_;
}

std::byte* CpuDevice::grow(HostMemory& memory, uint64_t byte_count) {
  if (memory.size() < byte_count) {
    memory = HostMemory();
    auto larger = HostMemory::allocate(byte_count + byte_count / 4, "activations");
    // Activations are small beside weights and KV; when even they do not fit nothing can go on.
    TRIREME_CHECK(larger.ok(), "there is memory for one step's activations");
    memory = std::move(larger).value();
  }
  return memory.data();
}

View CpuDevice::scratch(uint32_t slot, uint32_t row_count, uint32_t column_count) {
  TRIREME_CHECK(slot < kScratchSlots, "a model uses the slots there are");
  return scratch_view(scratch_[slot], row_count, column_count);
}

View CpuDevice::scratch_view(HostMemory& memory, uint32_t row_count, uint32_t column_count) {
  // Rows start on cache lines.
  const uint32_t stride = (column_count + 15) / 16 * 16;
  auto* data = grow(memory, uint64_t{4} * row_count * stride);
  return {reinterpret_cast<float*>(data), row_count, column_count, stride};
}

void CpuDevice::write_from(std::span<const float> host, const View& to) {
  for (uint32_t row = 0; row < to.row_count; ++row) {
    std::memcpy(row_of(to, row), host.data() + static_cast<std::size_t>(row) * to.column_count,
                to.column_count * sizeof(float));
  }
}

void CpuDevice::read_back(const View& from, std::span<float> host) {
  for (uint32_t row = 0; row < from.row_count; ++row) {
    std::memcpy(host.data() + static_cast<std::size_t>(row) * from.column_count, row_of(from, row),
                from.column_count * sizeof(float));
  }
}

void CpuDevice::embed(const EmbeddingWeight& table, const View& out) {
  const auto& rows = static_cast<const EmbeddingRows&>(table);
  for_ranges(out.row_count, out.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t i = begin; i < end; ++i) {
                 rows.read_row(static_cast<uint32_t>(batch_->tokens[i]), row_of(out, i));
               }
             });
}

void CpuDevice::normalise(const NormRows& rows) {
  for_ranges(rows.row_count, rows.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               NormRows part = rows;
               part.x += static_cast<std::size_t>(begin) * rows.x_stride;
               part.out += static_cast<std::size_t>(begin) * rows.out_stride;
               if (part.delta != nullptr) {
                 part.delta += static_cast<std::size_t>(begin) * rows.delta_stride;
               }
               part.row_count = end - begin;
               kernels_.rms_norm(part);
             });
}

void CpuDevice::rms_norm(const View& x, const VectorWeight& weight, float epsilon,
                         const View& out) {
  normalise({.x = x.data,
             .weight = vector_of(weight).data(),
             .out = out.data,
             .x_stride = x.row_stride,
             .out_stride = out.row_stride,
             .row_count = x.row_count,
             .column_count = x.column_count,
             .epsilon = epsilon});
}

void CpuDevice::add_rms_norm(const View& x, const View& delta, const VectorWeight& weight,
                             float epsilon, const View& out) {
  normalise({.x = x.data,
             .delta = delta.data,
             .weight = vector_of(weight).data(),
             .out = out.data,
             .x_stride = x.row_stride,
             .delta_stride = delta.row_stride,
             .out_stride = out.row_stride,
             .row_count = x.row_count,
             .column_count = x.column_count,
             .epsilon = epsilon});
}

void CpuDevice::head_rms_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                              float epsilon) {
  for_ranges(x.row_count, x.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t row = begin; row < end; ++row) {
                 kernels_.rms_norm({.x = row_of(x, row),
                                    .weight = vector_of(weight).data(),
                                    .out = row_of(x, row),
                                    .x_stride = head_size,
                                    .out_stride = head_size,
                                    .row_count = x.column_count / head_size,
                                    .column_count = head_size,
                                    .epsilon = epsilon});
               }
             });
}

void CpuDevice::add(const View& x, const View& delta) {
  for_ranges(x.row_count, x.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t row = begin; row < end; ++row) {
                 kernels_.add(row_of(x, row), row_of(delta, row), x.column_count);
               }
             });
}

void CpuDevice::turn_token(const View& heads, uint32_t head_size, uint32_t token) const {
  const uint32_t pairs = angles_.rotary_size / 2;
  const std::size_t at = static_cast<std::size_t>(token) * pairs;
  for (uint32_t column = 0; column < heads.column_count; column += head_size) {
    kernels_.rotary(row_of(heads, token) + column, &angles_.cosines[at], &angles_.sines[at], pairs);
  }
}

std::byte* CpuDevice::block_of(uint32_t layer, uint32_t head, uint32_t token) const {
  const KvLayout& layout = kv_.layout();
  const auto position = static_cast<uint32_t>(batch_->positions[token]);
  const auto& blocks = batch_->rows[row_of_token_[token]].blocks;
  const auto block = static_cast<uint32_t>(blocks[position / layout.block_tokens]);
  TRIREME_CHECK(block < kv_.block_count(), "the engine hands out blocks that exist");
  return kv_.head(layer, head) + block * kv_.block_stride();
}

void CpuDevice::append_token(uint32_t layer, const View& k, const View& v, uint32_t token) const {
  const KvLayout& layout = kv_.layout();
  const auto position = static_cast<uint32_t>(batch_->positions[token]);
  for (uint32_t head = 0; head < layout.kv_head_count; ++head) {
    kv_kernels().append({.k = row_of(k, token) + static_cast<std::size_t>(head) * layout.head_size,
                         .v = row_of(v, token) + static_cast<std::size_t>(head) * layout.head_size,
                         .head_size = layout.head_size,
                         .block_tokens = layout.block_tokens,
                         .slot = position % layout.block_tokens,
                         .kv = block_of(layer, head, token)});
  }
}

void CpuDevice::rotary(const View& heads, uint32_t head_size) {
  for_ranges(heads.row_count, heads.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t token = begin; token < end; ++token) {
                 turn_token(heads, head_size, token);
               }
             });
}

void CpuDevice::append_kv(uint32_t layer, const View& k, const View& v) {
  for_ranges(k.row_count, k.column_count * 2 / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t token = begin; token < end; ++token) append_token(layer, k, v, token);
             });
}

void CpuDevice::rotate_and_append(uint32_t layer, uint32_t head_size, const View& q_and_k,
                                  const View& k, const View& v) {
  const uint32_t columns = q_and_k.column_count + 2 * k.column_count;
  for_ranges(k.row_count, columns / kElementsPerNanosecond, [&](uint32_t begin, uint32_t end) {
    for (uint32_t token = begin; token < end; ++token) {
      turn_token(q_and_k, head_size, token);
      append_token(layer, k, v, token);
    }
  });
}

void CpuDevice::attention(uint32_t layer, const AttentionShape& shape, const View& q,
                          const View& out) {
  const KvLayout& layout = kv_.layout();
  const auto attend = kv_kernels().attention;
  const uint32_t group = shape.query_head_count / shape.kv_head_count;
  const uint32_t group_columns = group * shape.head_size;
  const auto last_seen_by_first = [&](const TokenRun& run) {
    const ForwardRow& row = batch_->rows[row_of_token_[run.begin]];
    return shape.is_causal ? static_cast<uint32_t>(batch_->positions[run.begin])
                           : row.start + row.token_count - 1;
  };
  const auto attend_run = [&](const TokenRun& run, uint32_t head) {
    attend({.q = row_of(q, run.begin) + static_cast<std::size_t>(head) * group_columns,
            .out = row_of(out, run.begin) + static_cast<std::size_t>(head) * group_columns,
            .q_stride = q.row_stride,
            .out_stride = out.row_stride,
            .token_count = run.count,
            .head_count = group,
            .head_size = shape.head_size,
            .scale = shape.scale,
            .window_tokens = shape.window_tokens,
            .position = last_seen_by_first(run),
            .blocks = batch_->rows[row_of_token_[run.begin]].blocks.data(),
            .block_tokens = layout.block_tokens,
            .kv = kv_.head(layer, head),
            .block_stride = kv_.block_stride(),
            .soft_cap = shape.soft_cap,
            .is_causal = shape.is_causal});
  };
  // Head by head, so that the tokens of a prompt find the head's K and V in the cache.
  const auto run_count = static_cast<uint32_t>(runs_.size());
  const double run_nanoseconds = (200 + attention_nanoseconds_ * group) * q.row_count / run_count;
  for_ranges(shape.kv_head_count * run_count, run_nanoseconds, [&](uint32_t begin, uint32_t end) {
    for (uint32_t item = begin; item < end; ++item) {
      attend_run(runs_[item % run_count], item / run_count);
    }
  });
}

void CpuDevice::gather_rows(const View& x, std::span<const uint32_t> row_indices, const View& out) {
  for_ranges(static_cast<uint32_t>(row_indices.size()), x.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t i = begin; i < end; ++i) {
                 std::memcpy(row_of(out, i), row_of(x, row_indices[i]),
                             x.column_count * sizeof(float));
               }
             });
}

void CpuDevice::all_reduce(const View& x) {
  if (collective_.size() == 1 || !failure_.ok()) return;
  // The padding between rows is summed along: one call is cheaper than one per row.
  keep(collective_.all_reduce_sum({x.data, static_cast<std::size_t>(x.row_count) * x.row_stride}));
}

void CpuDevice::logits(const LinearWeight& weight, const View& x, uint32_t vocabulary,
                       std::span<float> out) {
  if (collective_.size() == 1) {
    linear(weight, x, {out.data(), x.row_count, vocabulary, vocabulary});
    return;
  }
  const uint32_t part = weight.out_features();
  const std::size_t part_count = static_cast<std::size_t>(x.row_count) * part;
  auto* mine = reinterpret_cast<float*>(grow(logits_part_, part_count * sizeof(float)));
  const std::size_t all_count = part_count * collective_.size();
  auto* all = reinterpret_cast<float*>(grow(gathered_, all_count * sizeof(float)));
  linear(weight, x, {mine, x.row_count, part, part});
  if (!failure_.ok()) return;
  keep(collective_.all_gather({mine, part_count}, {all, all_count}));
  for (uint32_t rank = 0; rank < collective_.size(); ++rank) {
    const uint32_t begin = rank * part;
    const uint32_t columns = std::min(part, vocabulary - std::min(begin, vocabulary));
    for (uint32_t row = 0; row < x.row_count; ++row) {
      std::memcpy(out.data() + static_cast<std::size_t>(row) * vocabulary + begin,
                  all + rank * part_count + static_cast<std::size_t>(row) * part,
                  columns * sizeof(float));
    }
  }
}

}  // namespace trireme::worker::cpu
