#include "worker/models/decoder.h"

#include <algorithm>
#include <cmath>

namespace trireme::worker {
namespace {

// Scratch memory of the device: what lives at the same time has different slots.
enum Slot : uint32_t {
  kResidual,
  kNormed,
  kQkv,
  kAttended,
  kDelta,
  kAttentionDelta,
  kPicked,
  kRouted,
  kShared,
  kQueries,
  kLatentQueries
};

// Of the norms of latents, whatever the model's is.
constexpr float kLatentNormEpsilon = 1e-6F;

// Saved by itself, without its head, a network's tensors lack the prefix.
void drop_absent_prefix(const Safetensors& weights, DecoderNames& names) {
  const std::string embedding = names.embedding + ".weight";
  if (weights.find(names.prefix + embedding) != nullptr) return;
  if (weights.find(embedding) != nullptr) names.prefix.clear();
}

}  // namespace

StatusOr<std::unique_ptr<Model>> DecoderModel::load(DecoderConfig config, ModelSource source) {
  if (config.ropes.empty()) config.ropes = ropes_of(config.sizes);
  if (config.mixture) TRIREME_RETURN_IF_ERROR(check_mixture(*config.mixture));
  if (!source.wants_logits) config.names.head.clear();
  drop_absent_prefix(source.directory.weights(), config.names);
  const ModelConfig& sizes = config.sizes;
  TRIREME_ASSIGN_OR_RETURN(const Activation activation, activation_of(sizes));
  TRIREME_ASSIGN_OR_RETURN(DecoderShare share, DecoderShare::of(config.sizes, source.place));
  share.has_whole_experts = source.has_whole_experts;
  share.experts = source.expert_home;
  TRIREME_RETURN_IF_ERROR(check_mixture_divides(config, share));
  TRIREME_ASSIGN_OR_RETURN(Ropes ropes, make_ropes(config, source.tokens_max));
  TRIREME_ASSIGN_OR_RETURN(DecoderWeights weights,
                           load_decoder_weights(config, share, source.directory.weights(),
                                                *source.device, source.progress));
  const KvLayout kv{.element = source.kv_element,
                    .layer_count = share.layers.count,
                    .kv_head_count = share.kv_heads.count,
                    .head_size = sizes.head_dim,
                    .block_tokens = source.block_tokens,
                    .value_size = sizes.latent ? sizes.latent->kv_rank : 0};
  return std::unique_ptr<Model>(new DecoderModel(std::move(config), share, activation,
                                                 std::move(ropes), std::move(weights), kv,
                                                 std::move(source.device), source.life));
}

StatusOr<DecoderModel::Ropes> DecoderModel::make_ropes(const DecoderConfig& config,
                                                       uint32_t tokens_max) {
  const ModelConfig& sizes = config.sizes;
  const bool has_rope =
      std::ranges::any_of(config.ropes, [](LayerRope rope) { return rope != LayerRope::kNone; });
  const uint32_t turning_size = sizes.latent ? sizes.latent->rope_size : sizes.head_dim;
  const auto rotary_size =
      static_cast<uint32_t>(turning_size * sizes.partial_rotary_factor.value_or(1.0));
  TRIREME_ASSIGN_OR_RETURN(Rope global, Rope::make(sizes, has_rope ? rotary_size : 0, tokens_max));
  if (std::ranges::find(config.ropes, LayerRope::kLocal) == config.ropes.end()) {
    return Ropes{std::move(global), std::nullopt};
  }
  ModelConfig local_sizes = sizes;
  local_sizes.rope_theta = sizes.local_rope_theta.value_or(sizes.rope_theta);
  local_sizes.rope_scaling = {};
  TRIREME_ASSIGN_OR_RETURN(Rope local, Rope::make(local_sizes, rotary_size));
  return Ropes{std::move(global), std::move(local)};
}

DecoderModel::DecoderModel(DecoderConfig config, DecoderShare share, Activation activation,
                           Ropes ropes, DecoderWeights weights, KvLayout kv,
                           std::unique_ptr<Device> device, LifeSigns life)
    : config_(std::move(config)),
      share_(share),
      activation_(activation),
      kv_(kv),
      device_(std::move(device)),
      ropes_(std::move(ropes)),
      weights_(std::move(weights)),
      life_(life) {}

KvShape DecoderModel::kv_shape() const {
  return {.block_tokens = kv_.block_tokens, .block_bytes = device_->kv_block_bytes(kv_)};
}

Status DecoderModel::allocate_kv(uint32_t block_count) {
  TRIREME_RETURN_IF_ERROR(device_->allocate_kv(kv_, block_count));
  has_kv_ = true;
  return absl::OkStatus();
}

Status DecoderModel::check(const ForwardBatch& batch, std::span<const float> hidden_in,
                           std::span<float> hidden_out, std::span<float> logits) const {
  const std::size_t hidden = batch.tokens.size() * sizes().hidden_size;
  const std::size_t logit_count = batch.logits_tokens.size() * sizes().vocabulary_size;
  if (!has_kv_) return error(StatusCode::kFailedPrecondition, "forward before allocate_kv");
  if (!share_.is_first_stage && hidden_in.size() != hidden) {
    return error(StatusCode::kInternal, "hidden_in has %d values, not %d", hidden_in.size(),
                 hidden);
  }
  if (!share_.is_last_stage && hidden_out.size() != hidden) {
    return error(StatusCode::kInternal, "hidden_out has %d values, not %d", hidden_out.size(),
                 hidden);
  }
  if (share_.is_last_stage && logits.size() != logit_count) {
    return error(StatusCode::kInternal, "logits has %d values, not %d", logits.size(), logit_count);
  }
  if (share_.is_last_stage && weights_.head == nullptr && logit_count > 0) {
    return error(StatusCode::kFailedPrecondition,
                 "logits are wanted of a model that is served for embeddings");
  }
  if (batch.features.size() != batch.feature_tokens.size() * sizes().hidden_size) {
    return error(StatusCode::kInternal, "features has %d values for %d tokens",
                 batch.features.size(), batch.feature_tokens.size());
  }
  return absl::OkStatus();
}

Status DecoderModel::forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                             std::span<float> hidden_out, std::span<float> logits) {
  TRIREME_RETURN_IF_ERROR(check(batch, hidden_in, hidden_out, logits));
  const auto token_count = static_cast<uint32_t>(batch.tokens.size());
  if (token_count == 0) return absl::OkStatus();
  global_angles_ = ropes_.global.angles(batch.positions);
  if (ropes_.local) local_angles_ = ropes_.local->angles(batch.positions);
  rope_in_use_ = LayerRope::kGlobal;
  device_->begin_step(batch, global_angles_);
  const View residual = device_->scratch(kResidual, token_count, sizes().hidden_size);
  if (share_.is_first_stage) {
    embed_tokens(residual);
  } else {
    device_->write_from(hidden_in, residual);
  }
  const View delta = device_->scratch(kDelta, token_count, sizes().hidden_size);
  for (uint32_t layer = 0; layer < share_.layers.count; ++layer) {
    life_.enter(WorkerPhase::kAttention, share_.layers.begin + layer);
    if (config_.norm_after) {
      run_norm_after_layer(layer, residual, delta);
    } else {
      run_layer(layer, residual, layer > 0, delta);
    }
  }
  if (share_.layers.count > 0 && !config_.norm_after) device_->add(residual, delta);
  if (share_.is_last_stage) {
    life_.enter(WorkerPhase::kLogits);
    write_logits(batch, residual, logits);
    write_features(batch, residual);
  } else {
    device_->read_back(residual, hidden_out);
  }
  return device_->end_step();
}

Status DecoderModel::run_experts_for_others() {
  const ForwardBatch nobody;
  const View nothing{.column_count = sizes().hidden_size, .row_stride = sizes().hidden_size};
  device_->begin_step(nobody, {});
  for (uint32_t layer = 0; layer < share_.layers.count; ++layer) {
    if (weights_.layers[layer].experts.empty()) continue;
    life_.enter(WorkerPhase::kMlp, share_.layers.begin + layer);
    device_->run_experts(activation_, weights_.layers[layer].experts,
                         {.per_token = config_.mixture->routing.experts_per_token}, nothing,
                         nothing);
  }
  return device_->end_step();
}

void DecoderModel::embed_tokens(const View& residual) {
  device_->embed(*weights_.embedding, residual);
  if (config_.embedding_scale != 1.0F) device_->scale(residual, config_.embedding_scale);
  if (weights_.token_types != nullptr) device_->add_positions(*weights_.token_types, residual);
  if (weights_.positions != nullptr) device_->add_positions(*weights_.positions, residual);
  if (const NormWeights& norm = weights_.embedding_norm) {
    device_->layer_norm(residual, *norm.weight, norm.bias.get(), sizes().norm_eps, residual);
  }
}

void DecoderModel::run_layer(uint32_t layer, const View& residual, bool has_delta,
                             const View& delta) {
  const DecoderLayer& weights = weights_.layers[layer];
  const View normed = normalised(residual, has_delta ? &delta : nullptr, weights.attention_norm);
  if (!config_.parallel_residual) {
    attend(layer, normed, delta);
    finish_block(delta, weights.attention_post_norm);
    life_.enter(WorkerPhase::kMlp);
    feed_forward(layer, normalised(residual, &delta, weights.mlp_norm), delta);
    finish_block(delta, weights.mlp_post_norm);
    return;
  }
  const View attended = device_->scratch(kAttentionDelta, residual.row_count, sizes().hidden_size);
  attend(layer, normed, attended);
  life_.enter(WorkerPhase::kMlp);
  const bool shares_norm = !weights.mlp_norm;
  feed_forward(layer, shares_norm ? normed : normalised(residual, nullptr, weights.mlp_norm),
               delta);
  device_->add(delta, attended);
  finish_block(delta, weights.mlp_post_norm);
}

void DecoderModel::run_norm_after_layer(uint32_t layer, const View& residual, const View& delta) {
  const DecoderLayer& weights = weights_.layers[layer];
  const auto add_and_normalise = [&](const NormWeights& norm) {
    device_->all_reduce(delta);
    device_->add(residual, delta);
    device_->layer_norm(residual, *norm.weight, norm.bias.get(), sizes().norm_eps, residual);
  };
  attend(layer, residual, delta);
  add_and_normalise(weights.attention_post_norm);
  life_.enter(WorkerPhase::kMlp);
  feed_forward(layer, residual, delta);
  add_and_normalise(weights.mlp_post_norm);
}

View DecoderModel::normalised(const View& x, const View* delta, const NormWeights& norm) {
  const float epsilon = sizes().norm_eps;
  const bool is_fused = norm && config_.norm == NormKind::kRms;
  if (delta != nullptr && !is_fused) device_->add(x, *delta);
  if (!norm) return x;
  const View out = device_->scratch(kNormed, x.row_count, x.column_count);
  if (config_.norm == NormKind::kLayer) {
    device_->layer_norm(x, *norm.weight, norm.bias.get(), epsilon, out);
  } else if (delta == nullptr) {
    device_->rms_norm(x, *norm.weight, epsilon, out);
  } else {
    device_->add_rms_norm(x, *delta, *norm.weight, epsilon, out);
  }
  return out;
}

void DecoderModel::finish_block(const View& out, const NormWeights& norm) {
  device_->all_reduce(out);
  if (norm) device_->rms_norm(out, *norm.weight, sizes().norm_eps, out);
  if (config_.residual_scale != 1.0F) device_->scale(out, config_.residual_scale);
}

void DecoderModel::norm_heads(const DecoderLayer& weights, const View& q, const View& k) {
  const float epsilon = sizes().norm_eps;
  const uint32_t head_size = sizes().head_dim;
  for (const auto& [heads, weight] :
       {std::pair(q, weights.q_norm.get()), std::pair(k, weights.k_norm.get())}) {
    switch (config_.qk_norm) {
      case QkNorm::kNone:
        break;
      case QkNorm::kHead:
        device_->head_rms_norm(heads, head_size, *weight, epsilon);
        break;
      case QkNorm::kWide:
        device_->wide_rms_norm(heads, *weight, epsilon);
        break;
      case QkNorm::kHeadLayer:
        device_->head_layer_norm(heads, head_size, *weight, epsilon);
        break;
    }
  }
}

void DecoderModel::append_turned(uint32_t layer, const View& q_and_k, const View& k,
                                 const View& v) {
  const LayerRope rope = config_.ropes[share_.layers.begin + layer];
  if (rope == LayerRope::kNone) return device_->append_kv(layer, k, v);
  if (rope != rope_in_use_) {
    device_->use_angles(rope == LayerRope::kLocal ? local_angles_ : global_angles_);
    rope_in_use_ = rope;
  }
  device_->rotate_and_append(layer, sizes().head_dim, q_and_k, k, v);
}

void DecoderModel::attend(uint32_t layer, const View& x, const View& out) {
  if (sizes().latent) return attend_latent(layer, x, out);
  const DecoderLayer& weights = weights_.layers[layer];
  const uint32_t head_size = sizes().head_dim;
  const uint32_t q_columns = share_.query_heads.count * head_size;
  const uint32_t kv_columns = share_.kv_heads.count * head_size;
  const View qkv = device_->scratch(kQkv, x.row_count, q_columns + 2 * kv_columns);
  device_->linear(*weights.qkv, x, qkv);
  const View q = qkv.columns(0, q_columns);
  const View k = qkv.columns(q_columns, kv_columns);
  const View v = qkv.columns(q_columns + kv_columns, kv_columns);
  norm_heads(weights, q, k);
  append_turned(layer, qkv.columns(0, q_columns + kv_columns), k, v);
  const View attended = device_->scratch(kAttended, x.row_count, q_columns);
  const float plain_scale = 1.0F / std::sqrt(static_cast<float>(head_size));
  device_->attention(
      layer,
      {.query_head_count = share_.query_heads.count,
       .kv_head_count = share_.kv_heads.count,
       .head_size = head_size,
       .scale = config_.attention_scale == 0.0F ? plain_scale : config_.attention_scale,
       .window_tokens = config_.window_tokens[share_.layers.begin + layer],
       .soft_cap = config_.attention_soft_cap,
       .is_causal = !config_.sees_both_ways},
      q, attended);
  device_->linear(*weights.output, attended, out);
}

void DecoderModel::attend_latent(uint32_t layer, const View& x, const View& out) {
  const LatentSizes& latent = *sizes().latent;
  const LatentWeights& weights = weights_.layers[layer].latent;
  const uint32_t heads = share_.query_heads.count;
  const uint32_t q_columns = heads * (latent.plain_size + latent.rope_size);
  const uint32_t q_down_columns = latent.q_rank > 0 ? latent.q_rank : q_columns;
  const View down =
      device_->scratch(kQkv, x.row_count, q_down_columns + latent.kv_rank + latent.rope_size);
  device_->linear(*weights.down, x, down);
  View q = down.columns(0, q_down_columns);
  if (latent.q_rank > 0) {
    device_->rms_norm(q, *weights.q_norm, kLatentNormEpsilon, q);
    const View up = device_->scratch(kQueries, x.row_count, q_columns);
    device_->linear(*weights.q_up, q, up);
    q = up;
  }
  const View q_rope = q.columns(heads * latent.plain_size, heads * latent.rope_size);
  const View kv = down.columns(q_down_columns, latent.kv_rank);
  const View k_rope = down.columns(q_down_columns + latent.kv_rank, latent.rope_size);
  device_->rms_norm(kv, *weights.kv_norm, kLatentNormEpsilon, kv);
  device_->rotary(q_rope, latent.rope_size);
  device_->rotary(k_rope, latent.rope_size);
  device_->append_latent(layer, kv, k_rope);
  const View in_latent = device_->scratch(kLatentQueries, x.row_count, heads * latent.kv_rank);
  device_->linear_by_head(weights.key_up, q.columns(0, heads * latent.plain_size), in_latent);
  device_->attend_latent(layer, heads, config_.attention_scale, in_latent, q_rope, in_latent);
  const View attended = device_->scratch(kAttended, x.row_count, heads * latent.value_size);
  device_->linear_by_head(weights.value_up, in_latent, attended);
  device_->linear(*weights_.layers[layer].output, attended, out);
}

void DecoderModel::feed_forward(uint32_t layer, const View& x, const View& out) {
  const DecoderLayer& weights = weights_.layers[layer];
  const auto run_mlp = [&](const View& to) {
    device_->feed_forward(activation_, *weights.mlp.gate_up, *weights.mlp.down, x, to);
  };
  if (weights.experts.empty()) return run_mlp(out);
  const MixtureConfig& mixture = *config_.mixture;
  const View routed = device_->scratch(kRouted, x.row_count, mixture.expert_count);
  device_->linear(*weights.router, x, routed);
  const ExpertChoices choices =
      device_->choose_experts(mixture.routing, weights.router_bias.get(), routed);
  device_->run_experts(activation_, weights.experts, choices, x, out);
  if (mixture.shared_size == 0) return;
  const View shared = device_->scratch(kShared, x.row_count, x.column_count);
  run_mlp(shared);
  if (weights.shared_gate == nullptr) return device_->add(out, shared);
  const View gate = device_->scratch(kRouted, x.row_count, 1);
  device_->linear(*weights.shared_gate, x, gate);
  device_->add_gated(out, gate, shared);
}

void DecoderModel::write_logits(const ForwardBatch& batch, const View& residual,
                                std::span<float> logits) {
  if (batch.logits_tokens.empty()) return;
  const View normed = pick_normalised(batch.logits_tokens, residual);
  if (config_.logits_scale != 1.0F) device_->scale(normed, config_.logits_scale);
  device_->logits(*weights_.head, normed, sizes().vocabulary_size, logits);
  if (config_.logits_soft_cap != 0.0F) device_->cap_logits(config_.logits_soft_cap, logits);
}

void DecoderModel::write_features(const ForwardBatch& batch, const View& residual) {
  if (batch.feature_tokens.empty()) return;
  device_->read_back(pick_normalised(batch.feature_tokens, residual), batch.features);
}

View DecoderModel::pick_normalised(std::span<const uint32_t> tokens, const View& residual) {
  const View picked =
      device_->scratch(kPicked, static_cast<uint32_t>(tokens.size()), sizes().hidden_size);
  device_->gather_rows(residual, tokens, picked);
  return normalised(picked, nullptr, weights_.final_norm);
}

}  // namespace trireme::worker
