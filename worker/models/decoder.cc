#include "worker/models/decoder.h"

#include <cmath>

namespace trireme::worker {
namespace {

// Scratch memory of the device: what lives at the same time has different slots.
enum Slot : uint32_t {
  kResidual,
  kNormed,
  kQkv,
  kAttended,
  kGateUp,
  kActivated,
  kDelta,
  kPicked,
  kRouted
};

}  // namespace

std::vector<uint32_t> windows_of(const ModelConfig& config) {
  std::vector<uint32_t> windows(config.layer_count);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    windows[layer] = config.window_of_layer(layer);
  }
  return windows;
}

std::vector<uint32_t> no_windows(const ModelConfig& config) {
  return std::vector<uint32_t>(config.layer_count, 0);
}

StatusOr<std::unique_ptr<Model>> DecoderModel::load(DecoderConfig config, ModelSource source) {
  const ModelConfig& sizes = config.sizes;
  if (sizes.hidden_act != "silu") {
    return error(StatusCode::kInvalidArgument,
                 "config.json: hidden_act \"%s\" is not supported for %s; supported is silu",
                 sizes.hidden_act, sizes.architecture);
  }
  TRIREME_ASSIGN_OR_RETURN(DecoderShare share, DecoderShare::of(sizes, source.place));
  const auto rotary_size = static_cast<uint32_t>(sizes.head_dim * sizes.partial_rotary_factor);
  TRIREME_ASSIGN_OR_RETURN(Rope rope, Rope::make(sizes, rotary_size));
  TRIREME_ASSIGN_OR_RETURN(DecoderWeights weights,
                           load_decoder_weights(config, share, source.directory.weights(),
                                                *source.device, source.progress));
  const KvLayout kv{.element = source.element,
                    .layer_count = share.layers.count,
                    .kv_head_count = share.kv_heads.count,
                    .head_size = sizes.head_dim,
                    .block_tokens = source.block_tokens};
  return std::unique_ptr<Model>(new DecoderModel(std::move(config), share, std::move(rope),
                                                 std::move(weights), kv, std::move(source.device),
                                                 source.life));
}

DecoderModel::DecoderModel(DecoderConfig config, DecoderShare share, Rope rope,
                           DecoderWeights weights, KvLayout kv, std::unique_ptr<Device> device,
                           LifeSigns life)
    : config_(std::move(config)),
      share_(share),
      kv_(kv),
      device_(std::move(device)),
      rope_(std::move(rope)),
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
  return absl::OkStatus();
}

Status DecoderModel::forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                             std::span<float> hidden_out, std::span<float> logits) {
  TRIREME_RETURN_IF_ERROR(check(batch, hidden_in, hidden_out, logits));
  const auto token_count = static_cast<uint32_t>(batch.tokens.size());
  if (token_count == 0) return absl::OkStatus();
  device_->begin_step(batch, rope_.angles(batch.positions));
  const View residual = device_->scratch(kResidual, token_count, sizes().hidden_size);
  if (share_.is_first_stage) {
    device_->embed(*weights_.embedding, residual);
  } else {
    device_->write_from(hidden_in, residual);
  }
  const View delta = device_->scratch(kDelta, token_count, sizes().hidden_size);
  for (uint32_t layer = 0; layer < share_.layers.count; ++layer) {
    life_.enter(WorkerPhase::kAttention, share_.layers.begin + layer);
    attention_block(layer, residual, layer == 0 ? nullptr : &delta, delta);
    life_.enter(WorkerPhase::kMlp);
    mlp_block(layer, residual, delta, delta);
  }
  if (share_.layers.count > 0) device_->add(residual, delta);
  if (share_.is_last_stage) {
    life_.enter(WorkerPhase::kLogits);
    write_logits(batch, residual, logits);
  } else {
    device_->read_back(residual, hidden_out);
  }
  return device_->end_step();
}

void DecoderModel::attention_block(uint32_t layer, const View& residual, const View* delta,
                                   const View& out) {
  const DecoderLayer& weights = weights_.layers[layer];
  const uint32_t head_size = sizes().head_dim;
  const uint32_t q_columns = share_.query_heads.count * head_size;
  const uint32_t kv_columns = share_.kv_heads.count * head_size;
  const View normed = device_->scratch(kNormed, residual.row_count, sizes().hidden_size);
  if (delta == nullptr) {
    device_->rms_norm(residual, *weights.attention_norm, sizes().rms_norm_eps, normed);
  } else {
    device_->add_rms_norm(residual, *delta, *weights.attention_norm, sizes().rms_norm_eps, normed);
  }
  const View qkv = device_->scratch(kQkv, residual.row_count, q_columns + 2 * kv_columns);
  device_->linear(*weights.qkv, normed, qkv);
  const View q = qkv.columns(0, q_columns);
  const View k = qkv.columns(q_columns, kv_columns);
  const View v = qkv.columns(q_columns + kv_columns, kv_columns);
  if (config_.qk_norm) {
    device_->head_rms_norm(q, head_size, *weights.q_norm, sizes().rms_norm_eps);
    device_->head_rms_norm(k, head_size, *weights.k_norm, sizes().rms_norm_eps);
  }
  device_->rotary(qkv.columns(0, q_columns + kv_columns), head_size);
  device_->append_kv(layer, k, v);
  const View attended = device_->scratch(kAttended, residual.row_count, q_columns);
  device_->attention(layer,
                     {.query_head_count = share_.query_heads.count,
                      .kv_head_count = share_.kv_heads.count,
                      .head_size = head_size,
                      .scale = 1.0F / std::sqrt(static_cast<float>(head_size)),
                      .window_tokens = config_.window_tokens[share_.layers.begin + layer]},
                     q, attended);
  device_->linear(*weights.output, attended, out);
  device_->all_reduce(out);
}

void DecoderModel::mlp_block(uint32_t layer, const View& residual, const View& delta,
                             const View& out) {
  const DecoderLayer& weights = weights_.layers[layer];
  const uint32_t columns = share_.intermediate.count;
  const View normed = device_->scratch(kNormed, residual.row_count, sizes().hidden_size);
  device_->add_rms_norm(residual, delta, *weights.mlp_norm, sizes().rms_norm_eps, normed);
  if (!weights.experts.empty()) {
    const View routed = device_->scratch(kRouted, residual.row_count, config_.expert_count);
    device_->linear(*weights.router, normed, routed);
    device_->mixture(weights.experts, routed, config_.experts_per_token, normed, out);
    device_->all_reduce(out);
    return;
  }
  const View gate_up = device_->scratch(kGateUp, residual.row_count, 2 * columns);
  device_->linear(*weights.gate_up, normed, gate_up);
  const View activated = device_->scratch(kActivated, residual.row_count, columns);
  device_->silu_mul(gate_up, activated);
  device_->linear(*weights.down, activated, out);
  device_->all_reduce(out);
}

void DecoderModel::write_logits(const ForwardBatch& batch, const View& residual,
                                std::span<float> logits) {
  const auto count = static_cast<uint32_t>(batch.logits_tokens.size());
  if (count == 0) return;
  const View picked = device_->scratch(kPicked, count, sizes().hidden_size);
  device_->gather_rows(residual, batch.logits_tokens, picked);
  const View normed = device_->scratch(kNormed, count, sizes().hidden_size);
  device_->rms_norm(picked, *weights_.final_norm, sizes().rms_norm_eps, normed);
  device_->logits(*weights_.head, normed, sizes().vocabulary_size, logits);
}

}  // namespace trireme::worker
