#include "worker/models/decoder_weights.h"

namespace trireme::worker {
namespace {

// Where experts of other workers come from when they are taken over.
struct ExpertSource {
  const DecoderConfig config;
  const DecoderShare share;
  const Safetensors& tensors;
  Device& device;

  [[nodiscard]] StatusOr<ExpertWeights> load(uint32_t layer, uint32_t expert,
                                             const OnPiece& on_piece) const;
};

std::string layer_prefix(const DecoderConfig& config, uint32_t index) {
  return absl::StrFormat("%s%s.%d.", config.names.prefix, config.names.layers, index);
}

// Loads one layer; the methods follow the order of the forward pass.
class LayerLoader : public TensorLoader {
 public:
  using TensorLoader::TensorLoader;

  // `elsewhere`: null where this worker has all experts that there are.
  [[nodiscard]] StatusOr<DecoderLayer> load(uint32_t index,
                                            const std::shared_ptr<const ExpertSource>& elsewhere) {
    const DecoderNames& names = config_.names;
    const uint32_t value_size = sizes_.latent ? sizes_.latent->value_size : sizes_.head_dim;
    DecoderLayer layer;
    TRIREME_ASSIGN_OR_RETURN(layer.attention_norm, norm(names.attention_norm));
    if (sizes_.latent) {
      TRIREME_ASSIGN_OR_RETURN(layer.latent,
                               load_latent_weights(config_, share_, tensors_, device_, prefix_));
    } else {
      TRIREME_ASSIGN_OR_RETURN(layer.qkv, qkv());
    }
    if (config_.qk_norm != QkNorm::kNone) {
      TRIREME_ASSIGN_OR_RETURN(layer.q_norm,
                               head_norm(names.q_norm, share_.query_heads, sizes_.head_count));
      TRIREME_ASSIGN_OR_RETURN(layer.k_norm,
                               head_norm(names.k_norm, share_.kv_heads, sizes_.kv_head_count));
    }
    TRIREME_ASSIGN_OR_RETURN(layer.output,
                             column_parallel(names.output, sizes_.head_count * value_size,
                                             {share_.query_heads.begin * value_size,
                                              share_.query_heads.count * value_size},
                                             config_.output_bias));
    TRIREME_ASSIGN_OR_RETURN(layer.attention_post_norm, norm(names.attention_post_norm));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp_norm, norm(names.mlp_norm));
    TRIREME_RETURN_IF_ERROR(config_.has_mixture(index) ? load_mixture(index, elsewhere, layer)
                                                       : load_mlp(layer));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp_post_norm, norm(names.mlp_post_norm));
    return layer;
  }

  [[nodiscard]] StatusOr<ExpertWeights> expert(uint32_t index, bool is_apart) {
    const MixtureConfig& mixture = *config_.mixture;
    const std::string name = absl::StrFormat("%s.%d.", mixture.experts, index);
    return mlp(name + mixture.gate, name + mixture.up, name + mixture.down, mixture.expert_size,
               share_.part_of_expert(mixture.expert_size), false, is_apart);
  }

 private:
  [[nodiscard]] Range heads(Range range, uint32_t first_row = 0) const {
    return {first_row + range.begin * sizes_.head_dim, range.count * sizes_.head_dim};
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
    if (names.gate_up.empty()) {
      TRIREME_ASSIGN_OR_RETURN(layer.mlp, mlp(names.gate, names.up, names.down, size,
                                              share_.part_of(size), config_.mlp_bias));
      return absl::OkStatus();
    }
    const Range mine = share_.part_of(size);
    LinearSource source;
    TRIREME_RETURN_IF_ERROR(add_rows(names.gate_up, 2 * size,
                                     {mine, {size + mine.begin, mine.count}}, config_.mlp_bias,
                                     source));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp.gate_up, device_.load_linear(source));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp.down,
                             column_parallel(names.down, size, mine, config_.mlp_bias));
    return absl::OkStatus();
  }

  // That it is in the checkpoint as it shall be.
  [[nodiscard]] Status check_expert(uint32_t index) const {
    const MixtureConfig& mixture = *config_.mixture;
    const std::string name = absl::StrFormat("%s.%d.", mixture.experts, index);
    for (const std::string& part : {mixture.gate, mixture.up}) {
      if (part.empty()) continue;
      TRIREME_RETURN_IF_ERROR(
          matrix(name + part, mixture.expert_size, sizes_.hidden_size).status());
    }
    return matrix(name + mixture.down, sizes_.hidden_size, mixture.expert_size).status();
  }

  [[nodiscard]] Status load_mixture(uint32_t layer_index,
                                    const std::shared_ptr<const ExpertSource>& elsewhere,
                                    DecoderLayer& layer) {
    const MixtureConfig& mixture = *config_.mixture;
    TRIREME_ASSIGN_OR_RETURN(layer.router, router(mixture.router, mixture.expert_count));
    if (!mixture.router_bias.empty()) {
      TRIREME_ASSIGN_OR_RETURN(const MatrixSlice bias,
                               reader_.vector(prefix_ + mixture.router_bias, mixture.expert_count));
      TRIREME_ASSIGN_OR_RETURN(layer.router_bias, device_.load_vector(VectorSource{
                                                      .parts = {bias}, .keeps_precision = true}));
    }
    for (uint32_t index = 0; index < mixture.expert_count; ++index) {
      ExpertWeights& to = layer.experts.emplace_back();
      if (share_.experts.has(index, mixture.expert_count)) {
        TRIREME_ASSIGN_OR_RETURN(to, expert(index, /*is_apart=*/false));
        continue;
      }
      TRIREME_RETURN_IF_ERROR(check_expert(index));
      to.load = [elsewhere, layer_index, index](const OnPiece& on_piece) {
        return elsewhere->load(layer_index, index, on_piece);
      };
    }
    if (mixture.shared_size == 0) return absl::OkStatus();
    const std::string name = mixture.shared + ".";
    TRIREME_ASSIGN_OR_RETURN(layer.mlp,
                             mlp(name + mixture.gate, name + mixture.up, name + mixture.down,
                                 mixture.shared_size, share_.part_of(mixture.shared_size), false));
    if (mixture.shared_gate.empty()) return absl::OkStatus();
    TRIREME_ASSIGN_OR_RETURN(layer.shared_gate, router(mixture.shared_gate, 1));
    return absl::OkStatus();
  }
};

// Read one piece after the other first: packing looks at rows all over the expert at once, and
// shows nobody how far the disk is.
StatusOr<ExpertWeights> ExpertSource::load(uint32_t layer, uint32_t expert,
                                           const OnPiece& on_piece) const {
  const std::string prefix = layer_prefix(config, layer);
  tensors.read_through(absl::StrFormat("%s%s.%d.", prefix, config.mixture->experts, expert),
                       on_piece);
  return LayerLoader(config, share, tensors, device, prefix).expert(expert, /*is_apart=*/true);
}

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

uint64_t DecoderWeights::bytes() const {
  uint64_t total = bytes_of(embedding) + bytes_of(positions) + bytes_of(token_types) +
                   bytes_of(embedding_norm) + bytes_of(final_norm) + bytes_of(head);
  for (const DecoderLayer& layer : layers) {
    total += bytes_of(layer.attention_norm) + layer.latent.bytes() + bytes_of(layer.qkv) +
             bytes_of(layer.q_norm) + bytes_of(layer.k_norm) + bytes_of(layer.output) +
             bytes_of(layer.attention_post_norm) + bytes_of(layer.mlp_norm) + bytes_of(layer.mlp) +
             bytes_of(layer.mlp_post_norm) + bytes_of(layer.router) + bytes_of(layer.router_bias) +
             bytes_of(layer.shared_gate);
    for (const ExpertWeights& expert : layer.experts) total += bytes_of(expert);
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
  std::shared_ptr<const ExpertSource> elsewhere;
  if (config.mixture && share.experts.place_count > 1) {
    elsewhere.reset(new ExpertSource{config, share, tensors, device});
  }
  for (uint32_t i = 0; i < share.layers.count; ++i) {
    if (progress) progress("weights", static_cast<double>(i) / share.layers.count);
    const uint32_t index = share.layers.begin + i;
    LayerLoader loader(config, share, tensors, device, layer_prefix(config, index));
    TRIREME_ASSIGN_OR_RETURN(DecoderLayer layer, loader.load(index, elsewhere));
    weights.layers.push_back(std::move(layer));
  }
  if (progress) progress("weights", 1.0);
  return weights;
}

}  // namespace trireme::worker
