// DecoderModel: the pre-norm decoder that the Llama family shares: RMS norm, rope, grouped-query
// attention, SwiGLU. An architecture is a DecoderConfig.
// Threads: one thread calls; the device works inside.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/decoder_config.h"
#include "worker/models/decoder_weights.h"
#include "worker/models/model.h"
#include "worker/models/registry.h"
#include "worker/models/rope.h"

namespace trireme::worker {

// window_tokens of a DecoderConfig: as config.json says, or none at all.
[[nodiscard]] std::vector<uint32_t> windows_of(const ModelConfig& config);
[[nodiscard]] std::vector<uint32_t> no_windows(const ModelConfig& config);

class DecoderModel final : public Model {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<Model>> load(DecoderConfig config,
                                                             ModelSource source);

  [[nodiscard]] uint64_t weight_bytes() const override { return weights_.bytes(); }
  [[nodiscard]] uint32_t vocabulary_size() const override { return sizes().vocabulary_size; }
  [[nodiscard]] uint32_t hidden_size() const override { return sizes().hidden_size; }
  [[nodiscard]] KvShape kv_shape() const override;
  [[nodiscard]] Status allocate_kv(uint32_t block_count) override;
  [[nodiscard]] Status forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                               std::span<float> hidden_out, std::span<float> logits) override;

 private:
  DecoderModel(DecoderConfig config, DecoderShare share, Rope rope, DecoderWeights weights,
               KvLayout kv, std::unique_ptr<Device> device, LifeSigns life);
  [[nodiscard]] const ModelConfig& sizes() const { return config_.sizes; }
  [[nodiscard]] Status check(const ForwardBatch& batch, std::span<const float> hidden_in,
                             std::span<float> hidden_out, std::span<float> logits) const;

  // `delta` is what the block before adds to the residual stream; null before the first.
  void attention_block(uint32_t layer, const View& residual, const View* delta, const View& out);
  void mlp_block(uint32_t layer, const View& residual, const View& delta, const View& out);
  void write_logits(const ForwardBatch& batch, const View& residual, std::span<float> logits);

  const DecoderConfig config_;
  const DecoderShare share_;
  const KvLayout kv_;
  // The device outlives the weights it made.
  std::unique_ptr<Device> device_;
  Rope rope_;
  DecoderWeights weights_;
  const LifeSigns life_;
  bool has_kv_ = false;
};

}  // namespace trireme::worker
