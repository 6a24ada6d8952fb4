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

// Loads one layer; the methods follow the order of the forward pass.
class LayerLoader {
 public:
  LayerLoader(const DecoderConfig& config, const DecoderShare& share, const Safetensors& tensors,
              Device& device, uint32_t layer)
      : config_(config),
        sizes_(config.sizes),
        share_(share),
        reader_(tensors),
        device_(device),
        prefix_(absl::StrFormat("model.layers.%d.", layer)) {}

  [[nodiscard]] StatusOr<DecoderLayer> load() {
    DecoderLayer layer;
    TRIREME_ASSIGN_OR_RETURN(layer.attention_norm, norm("input_layernorm", sizes_.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(layer.qkv, qkv());
    if (config_.qk_norm) {
      TRIREME_ASSIGN_OR_RETURN(layer.q_norm, norm("self_attn.q_norm", sizes_.head_dim));
      TRIREME_ASSIGN_OR_RETURN(layer.k_norm, norm("self_attn.k_norm", sizes_.head_dim));
    }
    TRIREME_ASSIGN_OR_RETURN(
        layer.output, column_parallel("self_attn.o_proj", sizes_.head_count * sizes_.head_dim,
                                      heads(share_.query_heads), config_.output_bias));
    TRIREME_ASSIGN_OR_RETURN(layer.mlp_norm, norm("post_attention_layernorm", sizes_.hidden_size));
    if (config_.expert_count > 0) {
      TRIREME_RETURN_IF_ERROR(load_mixture(layer));
      return layer;
    }
    TRIREME_ASSIGN_OR_RETURN(layer.gate_up, gate_up("mlp.gate_proj", "mlp.up_proj"));
    TRIREME_ASSIGN_OR_RETURN(layer.down, column_parallel("mlp.down_proj", sizes_.intermediate_size,
                                                         share_.intermediate, config_.mlp_bias));
    return layer;
  }

 private:
  [[nodiscard]] Range heads(Range range) const {
    return {range.begin * sizes_.head_dim, range.count * sizes_.head_dim};
  }

  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> norm(const std::string& name,
                                                             uint32_t count) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                             reader_.vector(prefix_ + name + ".weight", count));
    return device_.load_vector(values);
  }

  // Rows of one projection as a part of `source`.
  [[nodiscard]] Status add_rows(const std::string& name, uint32_t row_count, Range rows, bool bias,
                                LinearSource& source) {
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice matrix,
        reader_.matrix(prefix_ + name + ".weight", row_count, sizes_.hidden_size));
    source.parts.push_back(rows_of(matrix, rows));
    if (!bias) return absl::OkStatus();
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                             reader_.vector(prefix_ + name + ".bias", row_count));
    source.biases.push_back(columns_of(values, rows));
    return absl::OkStatus();
  }

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> qkv() {
    LinearSource source;
    const bool bias = config_.qkv_bias;
    const uint32_t kv_rows = sizes_.kv_head_count * sizes_.head_dim;
    TRIREME_RETURN_IF_ERROR(add_rows("self_attn.q_proj", sizes_.head_count * sizes_.head_dim,
                                     heads(share_.query_heads), bias, source));
    TRIREME_RETURN_IF_ERROR(
        add_rows("self_attn.k_proj", kv_rows, heads(share_.kv_heads), bias, source));
    TRIREME_RETURN_IF_ERROR(
        add_rows("self_attn.v_proj", kv_rows, heads(share_.kv_heads), bias, source));
    return device_.load_linear(source);
  }

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> gate_up(const std::string& gate,
                                                                const std::string& up) {
    LinearSource source;
    for (const std::string& name : {gate, up}) {
      TRIREME_RETURN_IF_ERROR(
          add_rows(name, sizes_.intermediate_size, share_.intermediate, config_.mlp_bias, source));
    }
    return device_.load_linear(source);
  }

  [[nodiscard]] Status load_mixture(DecoderLayer& layer) {
    LinearSource router;
    const Range all{0, config_.expert_count};
    TRIREME_RETURN_IF_ERROR(
        add_rows("block_sparse_moe.gate", config_.expert_count, all, false, router));
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
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice matrix,
        reader_.matrix(prefix_ + name + ".weight", sizes_.hidden_size, column_count));
    LinearSource source{.parts = {columns_of(matrix, columns)}};
    if (bias && share_.adds_bias) {
      TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                               reader_.vector(prefix_ + name + ".bias", sizes_.hidden_size));
      source.biases.push_back(values);
    }
    return device_.load_linear(source);
  }

  const DecoderConfig& config_;
  const ModelConfig& sizes_;
  const DecoderShare& share_;
  const WeightReader reader_;
  Device& device_;
  const std::string prefix_;
};

Status load_ends(const DecoderConfig& config, const DecoderShare& share, const Safetensors& tensors,
                 Device& device, DecoderWeights& weights) {
  const ModelConfig& sizes = config.sizes;
  const WeightReader reader(tensors);
  const std::string embedding_name = "model.embed_tokens.weight";
  if (share.is_first_stage) {
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice table,
        reader.matrix(embedding_name, sizes.vocabulary_size, sizes.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(weights.embedding, device.load_embedding(table));
  }
  if (share.is_last_stage) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice norm,
                             reader.vector("model.norm.weight", sizes.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(weights.final_norm, device.load_vector(norm));
    TRIREME_ASSIGN_OR_RETURN(
        const MatrixSlice head,
        reader.matrix(sizes.tie_word_embeddings ? embedding_name : "lm_head.weight",
                      sizes.vocabulary_size, sizes.hidden_size));
    TRIREME_ASSIGN_OR_RETURN(weights.head,
                             device.load_linear({.parts = {rows_of(head, share.vocabulary)},
                                                 .row_count = share.vocabulary_per_rank}));
  }
  return absl::OkStatus();
}

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
  uint64_t total = bytes_of(embedding) + bytes_of(final_norm) + bytes_of(head);
  for (const DecoderLayer& layer : layers) {
    total += bytes_of(layer.attention_norm) + bytes_of(layer.qkv) + bytes_of(layer.q_norm) +
             bytes_of(layer.k_norm) + bytes_of(layer.output) + bytes_of(layer.mlp_norm) +
             bytes_of(layer.gate_up) + bytes_of(layer.down) + bytes_of(layer.router);
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
  TRIREME_RETURN_IF_ERROR(load_ends(config, share, tensors, device, weights));
  for (uint32_t i = 0; i < share.layers.count; ++i) {
    if (progress) progress("weights", static_cast<double>(i) / share.layers.count);
    LayerLoader loader(config, share, tensors, device, share.layers.begin + i);
    TRIREME_ASSIGN_OR_RETURN(DecoderLayer layer, loader.load());
    weights.layers.push_back(std::move(layer));
  }
  if (progress) progress("weights", 1.0);
  return weights;
}

}  // namespace trireme::worker
