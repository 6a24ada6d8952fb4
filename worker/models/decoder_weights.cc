#include "worker/models/decoder_weights.h"

#include <algorithm>

namespace trireme::worker {
namespace {

Status check_divides(const char* what, uint32_t count, uint32_t tp_size) {
  if (count % tp_size == 0) return absl::OkStatus();
  return error(StatusCode::kInvalidArgument,
               "--tensor-parallel-size %d: the model's %d %s do not divide by it", tp_size, count,
               what);
}

// Reads tensors by their names below a prefix, as the architecture stores them.
class TensorLoader {
 public:
  TensorLoader(const DecoderConfig& config, const DecoderShare& share, const Safetensors& tensors,
               Device& device, std::string prefix)
      : config_(config),
        sizes_(config.sizes),
        share_(share),
        reader_(tensors, config.sizes.quantization),
        device_(device),
        prefix_(std::move(prefix)) {}

 protected:
  [[nodiscard]] StatusOr<NormWeights> norm(const std::string& name) {
    NormWeights norm;
    if (name.empty()) return norm;
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                             reader_.vector(prefix_ + name + ".weight", sizes_.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(norm.weight,
                             device_.load_vector(VectorSource{{values}, config_.norm_added}));
    if (!config_.norm_bias) return norm;
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice bias,
                             reader_.vector(prefix_ + name + ".bias", sizes_.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(norm.bias, device_.load_vector(bias));
    return norm;
  }

  // The matrix of a linear layer.
  [[nodiscard]] StatusOr<MatrixSlice> matrix(const std::string& name, uint32_t row_count,
                                             uint32_t column_count) const {
    const std::string full = prefix_ + name + ".weight";
    return config_.is_transposed ? reader_.transposed(full, row_count, column_count)
                                 : reader_.matrix(full, row_count, column_count);
  }

  const DecoderConfig& config_;
  const ModelConfig& sizes_;
  const DecoderShare& share_;
  const WeightReader reader_;
  Device& device_;
  const std::string prefix_;
};

// Loads one layer; the methods follow the order of the forward pass.
class LayerLoader : public TensorLoader {
 public:
  using TensorLoader::TensorLoader;

  [[nodiscard]] StatusOr<DecoderLayer> load() {
    const DecoderNames& names = config_.names;
    DecoderLayer layer;
    TRIREME_ASSIGN_OR_RETURN(layer.attention_norm, norm(names.attention_norm));
    TRIREME_ASSIGN_OR_RETURN(layer.qkv, qkv());
    if (config_.qk_norm != QkNorm::kNone) {
      TRIREME_ASSIGN_OR_RETURN(layer.q_norm,
                               head_norm(names.q_norm, share_.query_heads, sizes_.head_count));
      TRIREME_ASSIGN_OR_RETURN(layer.k_norm,
                               head_norm(names.k_norm, share_.kv_heads, sizes_.kv_head_count));
    }
    TRIREME_ASSIGN_OR_RETURN(layer.output,
                             column_parallel(names.output, sizes_.head_count * sizes_.head_dim,
                                             heads(share_.query_heads), config_.output_bias));
    TRIREME_ASSIGN_OR_RETURN(layer.attention_post_norm, norm(names.attention_post_norm));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp_norm, norm(names.mlp_norm));
    TRIREME_RETURN_IF_ERROR(config_.expert_count > 0 ? load_mixture(layer) : load_mlp(layer));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp_post_norm, norm(names.mlp_post_norm));
    return layer;
  }

 private:
  [[nodiscard]] Range heads(Range range, uint32_t first_row = 0) const {
    return {first_row + range.begin * sizes_.head_dim, range.count * sizes_.head_dim};
  }

  // Some rows of a projection as parts of `source`, one after the other.
  [[nodiscard]] Status add_rows(const std::string& name, uint32_t row_count,
                                std::initializer_list<Range> ranges, bool bias,
                                LinearSource& source) {
    return add_rows(name, row_count, std::vector<Range>(ranges), bias, source);
  }
  [[nodiscard]] Status add_rows(const std::string& name, uint32_t row_count,
                                const std::vector<Range>& ranges, bool bias, LinearSource& source) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice all, matrix(name, row_count, sizes_.hidden_size));
    for (const Range& rows : ranges) source.parts.push_back(rows_of(all, rows));
    if (!bias) return absl::OkStatus();
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                             reader_.vector(prefix_ + name + ".bias", row_count));
    for (const Range& rows : ranges) source.biases.push_back(columns_of(values, rows));
    return absl::OkStatus();
  }

  // This rank's rows of a fused projection: its queries, then its keys, then its values.
  [[nodiscard]] std::vector<Range> fused_rows() const {
    const uint32_t queries = sizes_.head_count;
    const uint32_t keys = sizes_.kv_head_count;
    const uint32_t dim = sizes_.head_dim;
    if (config_.qkv_layout == QkvLayout::kStacked) {
      return {heads(share_.query_heads), heads(share_.kv_heads, queries * dim),
              heads(share_.kv_heads, (queries + keys) * dim)};
    }
    const uint32_t group = queries / keys;
    const auto row = [&](uint32_t kv_head, uint32_t slot) {
      return Range{(kv_head * (group + 2) + slot) * dim, dim};
    };
    std::vector<Range> rows;
    for (uint32_t i = 0; i < share_.query_heads.count; ++i) {
      const uint32_t head = share_.query_heads.begin + i;
      rows.push_back(row(head / group, head % group));
    }
    for (const uint32_t slot : {group, group + 1}) {
      for (uint32_t i = 0; i < share_.kv_heads.count; ++i) {
        rows.push_back(row(share_.kv_heads.begin + i, slot));
      }
    }
    return rows;
  }

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> qkv() {
    LinearSource source;
    const bool bias = config_.qkv_bias;
    const DecoderNames& names = config_.names;
    const uint32_t q_rows = sizes_.head_count * sizes_.head_dim;
    const uint32_t kv_rows = sizes_.kv_head_count * sizes_.head_dim;
    if (config_.qkv_layout != QkvLayout::kSeparate) {
      TRIREME_RETURN_IF_ERROR(
          add_rows(names.qkv, q_rows + 2 * kv_rows, fused_rows(), bias, source));
      return device_.load_linear(source);
    }
    TRIREME_RETURN_IF_ERROR(add_rows(names.q, q_rows, {heads(share_.query_heads)}, bias, source));
    TRIREME_RETURN_IF_ERROR(add_rows(names.k, kv_rows, {heads(share_.kv_heads)}, bias, source));
    TRIREME_RETURN_IF_ERROR(add_rows(names.v, kv_rows, {heads(share_.kv_heads)}, bias, source));
    return device_.load_linear(source);
  }

  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> head_norm(const std::string& name,
                                                                  Range mine, uint32_t head_count) {
    VectorSource source{.added = config_.norm_added};
    if (config_.qk_norm == QkNorm::kHeadLayer) {
      for (uint32_t i = 0; i < mine.count; ++i) {
        const std::string head = absl::StrFormat("%s.norms.%d.weight", name, mine.begin + i);
        TRIREME_ASSIGN_OR_RETURN(source.parts.emplace_back(),
                                 reader_.vector(prefix_ + head, sizes_.head_dim));
      }
      return device_.load_vector(source);
    }
    const bool is_wide = config_.qk_norm == QkNorm::kWide;
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice values,
        reader_.vector(prefix_ + name + ".weight", sizes_.head_dim * (is_wide ? head_count : 1)));
    source.parts = {is_wide ? columns_of(values, heads(mine)) : values};
    return device_.load_vector(source);
  }

  [[nodiscard]] Status load_mlp(DecoderLayer& layer) {
    const DecoderNames& names = config_.names;
    const uint32_t size = sizes_.intermediate_size;
    const Range mine = share_.intermediate;
    if (!names.gate_up.empty()) {
      LinearSource source;
      TRIREME_RETURN_IF_ERROR(add_rows(names.gate_up, 2 * size,
                                       {mine, {size + mine.begin, mine.count}}, config_.mlp_bias,
                                       source));
      TRIREME_ASSIGN_OR_RETURN(layer.gate_up, device_.load_linear(source));
    } else {
      TRIREME_ASSIGN_OR_RETURN(layer.gate_up, gate_up(names.gate, names.up));
    }
    TRIREME_ASSIGN_OR_RETURN(layer.down, column_parallel(names.down, size, mine, config_.mlp_bias));
    return absl::OkStatus();
  }

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> gate_up(const std::string& gate,
                                                                const std::string& up) {
    LinearSource source;
    for (const std::string& name : {gate, up}) {
      if (name.empty()) continue;
      TRIREME_RETURN_IF_ERROR(add_rows(name, sizes_.intermediate_size, {share_.intermediate},
                                       config_.mlp_bias, source));
    }
    return device_.load_linear(source);
  }

  [[nodiscard]] Status load_mixture(DecoderLayer& layer) {
    LinearSource router{.narrowest = Narrowest::kAsIs};
    const Range all{0, config_.expert_count};
    TRIREME_RETURN_IF_ERROR(
        add_rows("block_sparse_moe.gate", config_.expert_count, {all}, false, router));
    TRIREME_ASSIGN_OR_RETURN(layer.router, device_.load_linear(router));
    for (uint32_t index = 0; index < config_.expert_count; ++index) {
      const std::string name = absl::StrFormat("block_sparse_moe.experts.%d.w", index);
      ExpertWeights expert;
      TRIREME_ASSIGN_OR_RETURN(expert.gate_up, gate_up(name + "1", name + "3"));
      TRIREME_ASSIGN_OR_RETURN(expert.down, column_parallel(name + "2", sizes_.intermediate_size,
                                                            share_.intermediate, false));
      layer.experts.push_back(std::move(expert));
    }
    return absl::OkStatus();
  }

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> column_parallel(const std::string& name,
                                                                        uint32_t column_count,
                                                                        Range columns, bool bias) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice all, matrix(name, sizes_.hidden_size, column_count));
    LinearSource source{.parts = {columns_of(all, columns)}};
    if (bias && share_.adds_bias) {
      TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                               reader_.vector(prefix_ + name + ".bias", sizes_.hidden_size));
      source.biases.push_back(values);
    }
    return device_.load_linear(source);
  }
};

// What stands before the first layer and after the last.
class EndsLoader : public TensorLoader {
 public:
  using TensorLoader::TensorLoader;

  [[nodiscard]] Status load(DecoderWeights& weights) {
    if (share_.is_first_stage) TRIREME_RETURN_IF_ERROR(load_first(weights));
    if (share_.is_last_stage) TRIREME_RETURN_IF_ERROR(load_last(weights));
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] Status load_first(DecoderWeights& weights) {
    const DecoderNames& names = config_.names;
    TRIREME_ASSIGN_OR_RETURN(weights.embedding, table(names.embedding, sizes_.vocabulary_size));
    if (!names.positions.empty()) {
      TRIREME_ASSIGN_OR_RETURN(weights.positions, table(names.positions, sizes_.positions_max));
    }
    if (!names.token_types.empty()) {
      TRIREME_ASSIGN_OR_RETURN(weights.token_types, first_token_type());
    }
    TRIREME_ASSIGN_OR_RETURN(weights.embedding_norm, norm(names.embedding_norm));
    return absl::OkStatus();
  }

  [[nodiscard]] Status load_last(DecoderWeights& weights) {
    const DecoderNames& names = config_.names;
    TRIREME_ASSIGN_OR_RETURN(weights.final_norm, norm(names.final_norm));
    if (names.head.empty()) return absl::OkStatus();
    const std::string own_head = names.head + ".weight";
    const bool is_tied = sizes_.tie_word_embeddings.value_or(!reader_.has_matrix(own_head));
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice head,
        reader_.matrix(is_tied ? prefix_ + names.embedding + ".weight" : own_head,
                       sizes_.vocabulary_size, sizes_.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(weights.head,
                             device_.load_linear({.parts = {rows_of(head, share_.vocabulary)},
                                                  .row_count = share_.vocabulary_per_rank,
                                                  .narrowest = Narrowest::kInt8}));
    if (is_tied && weights.embedding != nullptr) share_rows_of_head(weights);
    return absl::OkStatus();
  }

  // Every rank embeds every token, but with tensor parallelism has only a part of the head: then
  // rows keep coming from the file.
  void share_rows_of_head(DecoderWeights& weights) const {
    if (share_.vocabulary.count != sizes_.vocabulary_size) return;
    auto rows = device_.embedding_of(*weights.head);
    if (rows != nullptr) weights.embedding = std::move(rows);
  }

  [[nodiscard]] StatusOr<std::unique_ptr<EmbeddingWeight>> table(const std::string& name,
                                                                 uint32_t row_count) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice rows, reader_.matrix(prefix_ + name + ".weight",
                                                                    row_count, sizes_.hidden_size));
    return device_.load_embedding(rows);
  }

  [[nodiscard]] StatusOr<std::unique_ptr<EmbeddingWeight>> first_token_type() {
    uint32_t type_count = 2;
    ConfigFields fields = sizes_.fields();
    fields.read("type_vocab_size", type_count);
    TRIREME_RETURN_IF_ERROR(fields.status());
    TRIREME_ASSIGN_OR_RETURN(MatrixSlice types,
                             reader_.matrix(prefix_ + config_.names.token_types + ".weight",
                                            type_count, sizes_.hidden_size));
    types.row_stride = 0;
    types.row_count = sizes_.positions_max;
    return device_.load_embedding(types);
  }
};

}  // namespace

StatusOr<DecoderShare> DecoderShare::of(const ModelConfig& sizes, const WorkerPlace& place) {
  const uint32_t tp = place.tp_size;
  TRIREME_RETURN_IF_ERROR(check_divides("attention heads", sizes.head_count, tp));
  TRIREME_RETURN_IF_ERROR(check_divides("intermediate columns", sizes.intermediate_size, tp));
  if (place.pp_size > sizes.layer_count) {
    return error(StatusCode::kInvalidArgument,
                 "--pipeline-parallel-size %d: the model has only %d layers", place.pp_size,
                 sizes.layer_count);
  }
  DecoderShare share;
  if (sizes.kv_head_count >= tp) {
    TRIREME_RETURN_IF_ERROR(check_divides("key/value heads", sizes.kv_head_count, tp));
    share.kv_heads = equal_part(sizes.kv_head_count, place.tp_rank, tp);
  } else {
    if (tp % sizes.kv_head_count != 0) {
      return error(StatusCode::kInvalidArgument,
                   "--tensor-parallel-size %d: not a multiple of the model's %d key/value heads",
                   tp, sizes.kv_head_count);
    }
    share.kv_heads = {place.tp_rank / (tp / sizes.kv_head_count), 1};
  }
  const uint32_t first = sizes.layer_count * place.pp_rank / place.pp_size;
  const uint32_t end = sizes.layer_count * (place.pp_rank + 1) / place.pp_size;
  share.layers = {first, end - first};
  share.query_heads = equal_part(sizes.head_count, place.tp_rank, tp);
  share.intermediate = equal_part(sizes.intermediate_size, place.tp_rank, tp);
  share.vocabulary_per_rank = (sizes.vocabulary_size + tp - 1) / tp;
  const uint32_t begin = std::min(share.vocabulary_per_rank * place.tp_rank, sizes.vocabulary_size);
  share.vocabulary = {begin, std::min(share.vocabulary_per_rank, sizes.vocabulary_size - begin)};
  share.is_first_stage = place.pp_rank == 0;
  share.is_last_stage = place.pp_rank + 1 == place.pp_size;
  share.adds_bias = place.tp_rank == 0;
  return share;
}

uint64_t DecoderWeights::bytes() const {
  const auto bytes_of = [](const auto& weight) { return weight == nullptr ? 0 : weight->bytes(); };
  const auto norm_bytes = [&](const NormWeights& norm) {
    return bytes_of(norm.weight) + bytes_of(norm.bias);
  };
  uint64_t total = bytes_of(embedding) + bytes_of(positions) + bytes_of(token_types) +
                   norm_bytes(embedding_norm) + norm_bytes(final_norm) + bytes_of(head);
  for (const DecoderLayer& layer : layers) {
    total += norm_bytes(layer.attention_norm) + bytes_of(layer.qkv) + bytes_of(layer.q_norm) +
             bytes_of(layer.k_norm) + bytes_of(layer.output) +
             norm_bytes(layer.attention_post_norm) + norm_bytes(layer.mlp_norm) +
             bytes_of(layer.gate_up) + bytes_of(layer.down) + norm_bytes(layer.mlp_post_norm) +
             bytes_of(layer.router);
    for (const ExpertWeights& expert : layer.experts) {
      total += bytes_of(expert.gate_up) + bytes_of(expert.down);
    }
  }
  return total;
}

StatusOr<DecoderWeights> load_decoder_weights(const DecoderConfig& config,
                                              const DecoderShare& share, const Safetensors& tensors,
                                              Device& device, const Progress& progress) {
  DecoderWeights weights;
  const std::string& prefix = config.names.prefix;
  EndsLoader ends(config, share, tensors, device, prefix);
  TRIREME_RETURN_IF_ERROR(ends.load(weights));
  for (uint32_t i = 0; i < share.layers.count; ++i) {
    if (progress) progress("weights", static_cast<double>(i) / share.layers.count);
    LayerLoader loader(
        config, share, tensors, device,
        absl::StrFormat("%s%s.%d.", prefix, config.names.layers, share.layers.begin + i));
    TRIREME_ASSIGN_OR_RETURN(DecoderLayer layer, loader.load());
    weights.layers.push_back(std::move(layer));
  }
  if (progress) progress("weights", 1.0);
  return weights;
}

}  // namespace trireme::worker
