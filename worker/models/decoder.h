// DecoderModel: the decoder that all architectures here share: grouped-query attention and an MLP
// or a mixture, each between norms, over one residual stream. An architecture is a DecoderConfig.
// Threads: one thread calls; the device works inside.
#pragma once

#include <memory>
#include <optional>

#include "worker/models/decoder_config.h"
#include "worker/models/decoder_weights.h"
#include "worker/models/model.h"
#include "worker/models/registry.h"
#include "worker/models/rope.h"

namespace trireme::worker {

class DecoderModel final : public Model {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<Model>> load(DecoderConfig config,
                                                             ModelSource source);

  [[nodiscard]] uint64_t weight_bytes() const override { return weights_.bytes(); }
  [[nodiscard]] uint32_t vocabulary_size() const override { return sizes().vocabulary_size; }
  [[nodiscard]] uint32_t hidden_size() const override { return sizes().hidden_size; }
  [[nodiscard]] KvShape kv_shape() const override;
  [[nodiscard]] bool needs_whole_prompts() const override { return config_.sees_both_ways; }
  [[nodiscard]] Status allocate_kv(uint32_t block_count) override;
  void release_kv() override { device_->release_kv(); }
  void copy_block_out(uint32_t block, std::span<std::byte> to) const override {
    device_->copy_kv_block_out(block, to);
  }
  void copy_block_in(uint32_t block, std::span<const std::byte> from) override {
    device_->copy_kv_block_in(block, from);
  }
  [[nodiscard]] Status forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                               std::span<float> hidden_out, std::span<float> logits) override;
  [[nodiscard]] Status run_experts_for_others() override;
  [[nodiscard]] uint32_t mixture_layer_count() const override {
    return static_cast<uint32_t>(std::ranges::count_if(
        weights_.layers, [](const DecoderLayer& layer) { return !layer.experts.empty(); }));
  }

 private:
  struct Ropes {
    Rope global;
    std::optional<Rope> local;  // Where some layers turn by other angles.
  };
  DecoderModel(DecoderConfig config, DecoderShare share, Activation activation, Ropes ropes,
               DecoderWeights weights, KvLayout kv, std::unique_ptr<Device> device, LifeSigns life);
  [[nodiscard]] static StatusOr<Ropes> make_ropes(const DecoderConfig& config, uint32_t tokens_max);
  [[nodiscard]] const ModelConfig& sizes() const { return config_.sizes; }
  [[nodiscard]] Status check(const ForwardBatch& batch, std::span<const float> hidden_in,
                             std::span<float> hidden_out, std::span<float> logits) const;

  void embed_tokens(const View& residual);
  // `delta` is what the layer before adds to the residual stream, and then what this one does. Not
  // has_delta: there is none before.
  void run_layer(uint32_t layer, const View& residual, bool has_delta, const View& delta);
  // Likewise where norms come after; nothing is left to add.
  void run_norm_after_layer(uint32_t layer, const View& residual, const View& delta);
  // What x, after `delta` was added to it, is under the norm; x itself without a norm.
  [[nodiscard]] View normalised(const View& x, const View* delta, const NormWeights& norm);
  // What a block adds to the stream: summed over the ranks, normalised and scaled in place.
  void finish_block(const View& out, const NormWeights& norm);
  void attend(uint32_t layer, const View& x, const View& out);
  void attend_latent(uint32_t layer, const View& x, const View& out);
  void norm_heads(const DecoderLayer& weights, const View& q, const View& k);
  // With the layer's rope, where it has one.
  void append_turned(uint32_t layer, const View& q_and_k, const View& k, const View& v);
  void feed_forward(uint32_t layer, const View& x, const View& out);
  void write_logits(const ForwardBatch& batch, const View& residual, std::span<float> logits);
  void write_features(const ForwardBatch& batch, const View& residual);
  // Some rows of the residual stream under the final norm.
  [[nodiscard]] View pick_normalised(std::span<const uint32_t> tokens, const View& residual);

  const DecoderConfig config_;
  const DecoderShare share_;
  const Activation activation_;
  const KvLayout kv_;
  // The device outlives the weights it made.
  std::unique_ptr<Device> device_;
  Ropes ropes_;
  // Of the step: which angles the device has now, and both kinds.
  LayerRope rope_in_use_ = LayerRope::kGlobal;
  RotaryAngles global_angles_;
  RotaryAngles local_angles_;
  DecoderWeights weights_;
  const LifeSigns life_;
  bool has_kv_ = false;
};

}  // namespace trireme::worker
