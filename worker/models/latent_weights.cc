#include "worker/models/latent_weights.h"

#include "worker/weights/quantized_matrix.h"

namespace trireme::worker {
namespace {

// Rows as two parts, those of the first of each pair and those of the second: where neighbours turn
// together, the halves of the result do.
void add_pair_halves(const MatrixSlice& all, Range rows, std::vector<MatrixSlice>& parts) {
  for (uint32_t half = 0; half < 2; ++half) {
    MatrixSlice part = rows_of(all, {rows.begin + half, rows.count - 1});
    if (part.quantized == nullptr) {
      part.row_count = rows.count / 2;
      part.row_stride *= 2;
      parts.push_back(part);
      continue;
    }
    for (uint32_t i = 0; i < rows.count; i += 2) parts.push_back(rows_of(part, {i, 1}));
  }
}

MatrixSlice transpose_of(MatrixSlice matrix) {
  std::swap(matrix.row_count, matrix.column_count);
  std::swap(matrix.row_stride, matrix.column_stride);
  return matrix;
}

class LatentLoader : public TensorLoader {
 public:
  using TensorLoader::TensorLoader;

  [[nodiscard]] StatusOr<LatentWeights> load() {
    LatentWeights weights;
    LinearSource down;
    TRIREME_RETURN_IF_ERROR(latent_.q_rank > 0 ? load_q_latent(weights, down)
                                               : add_queries("self_attn.q_proj", down));
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice kv,
                             matrix("self_attn.kv_a_proj_with_mqa",
                                    latent_.kv_rank + latent_.rope_size, sizes_.hidden_size));
    down.parts.push_back(rows_of(kv, {0, latent_.kv_rank}));
    add_turning(kv, latent_.kv_rank, down);
    TRIREME_ASSIGN_OR_RETURN(weights.down, device_.load_linear(down));
    TRIREME_ASSIGN_OR_RETURN(weights.kv_norm,
                             norm_weight("self_attn.kv_a_layernorm", latent_.kv_rank));
    TRIREME_RETURN_IF_ERROR(load_heads(weights));
    return weights;
  }

 private:
  void add_turning(const MatrixSlice& all, uint32_t begin, LinearSource& source) const {
    const Range rows{begin, latent_.rope_size};
    if (config_.turns_neighbours) return add_pair_halves(all, rows, source.parts);
    source.parts.push_back(rows_of(all, rows));
  }

  [[nodiscard]] Status add_queries(const std::string& name, LinearSource& source) {
    const uint32_t size = latent_.plain_size + latent_.rope_size;
    const uint32_t columns = latent_.q_rank > 0 ? latent_.q_rank : sizes_.hidden_size;
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice all,
                             matrix(name, sizes_.head_count * size, columns));
    const Range heads = share_.query_heads;
    for (uint32_t head = heads.begin; head < heads.begin + heads.count; ++head) {
      source.parts.push_back(rows_of(all, {head * size, latent_.plain_size}));
    }
    for (uint32_t head = heads.begin; head < heads.begin + heads.count; ++head) {
      add_turning(all, head * size + latent_.plain_size, source);
    }
    return absl::OkStatus();
  }

  [[nodiscard]] Status load_q_latent(LatentWeights& weights, LinearSource& down) {
    TRIREME_RETURN_IF_ERROR(
        add_rows("self_attn.q_a_proj", latent_.q_rank, {{0, latent_.q_rank}}, false, down));
    TRIREME_ASSIGN_OR_RETURN(weights.q_norm,
                             norm_weight("self_attn.q_a_layernorm", latent_.q_rank));
    LinearSource up;
    TRIREME_RETURN_IF_ERROR(add_queries("self_attn.q_b_proj", up));
    TRIREME_ASSIGN_OR_RETURN(weights.q_up, device_.load_linear(up));
    return absl::OkStatus();
  }

  // Of each head the rows of its keys, transposed, and those of its values.
  [[nodiscard]] Status load_heads(LatentWeights& weights) {
    const uint32_t size = latent_.plain_size + latent_.value_size;
    const Range heads = share_.query_heads;
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice stored,
        matrix("self_attn.kv_b_proj", sizes_.head_count * size, latent_.kv_rank));
    std::vector<float> decoded;
    const MatrixSlice mine =
        as_numbers(rows_of(stored, {heads.begin * size, heads.count * size}), decoded);
    for (uint32_t head = 0; head < heads.count; ++head) {
      const MatrixSlice keys = rows_of(mine, {head * size, latent_.plain_size});
      const MatrixSlice values =
          rows_of(mine, {head * size + latent_.plain_size, latent_.value_size});
      TRIREME_ASSIGN_OR_RETURN(
          weights.key_up.emplace_back(),
          device_.load_linear({.parts = {transpose_of(keys)}, .narrowest = Narrowest::kAsIs}));
      TRIREME_ASSIGN_OR_RETURN(
          weights.value_up.emplace_back(),
          device_.load_linear({.parts = {values}, .narrowest = Narrowest::kAsIs}));
    }
    return absl::OkStatus();
  }

  // Codes have no transpose.
  static MatrixSlice as_numbers(const MatrixSlice& matrix, std::vector<float>& decoded) {
    if (matrix.quantized == nullptr) return matrix;
    decoded.resize(std::size_t{matrix.row_count} * matrix.column_count);
    for (uint32_t row = 0; row < matrix.row_count; ++row) {
      const std::span<float> values(&decoded[std::size_t{row} * matrix.column_count],
                                    matrix.column_count);
      matrix.quantized->read_values(matrix.row_begin + row, matrix.column_begin, values);
    }
    return {.data = decoded.data(),
            .element = Element::kFloat32,
            .row_stride = matrix.column_count,
            .row_count = matrix.row_count,
            .column_count = matrix.column_count};
  }

  const LatentSizes& latent_ = *sizes_.latent;
};

}  // namespace

uint64_t LatentWeights::bytes() const {
  uint64_t total = bytes_of(down) + bytes_of(q_norm) + bytes_of(q_up) + bytes_of(kv_norm);
  for (const auto& weight : key_up) total += bytes_of(weight);
  for (const auto& weight : value_up) total += bytes_of(weight);
  return total;
}

StatusOr<LatentWeights> load_latent_weights(const DecoderConfig& config, const DecoderShare& share,
                                            const Safetensors& tensors, Device& device,
                                            std::string prefix) {
  return LatentLoader(config, share, tensors, device, std::move(prefix)).load();
}

}  // namespace trireme::worker
