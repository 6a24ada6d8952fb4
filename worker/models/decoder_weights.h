// The weights of one rank's share of a decoder (decoder_share.h): q, k, v, gate and up by rows, o
// and down by columns, the vocabulary by rows.
#pragma once

#include <memory>
#include <vector>

#include "worker/device.h"
#include "worker/models/decoder_config.h"
#include "worker/models/decoder_share.h"
#include "worker/models/latent_weights.h"
#include "worker/models/registry.h"
#include "worker/models/tensor_loader.h"

namespace trireme::worker {

struct DecoderLayer {
  NormWeights attention_norm;
  LatentWeights latent;                  // Where config.sizes has one, in the place of
  std::unique_ptr<LinearWeight> qkv;     // these.
  std::unique_ptr<VectorWeight> q_norm;  // Null without.
  std::unique_ptr<VectorWeight> k_norm;
  std::unique_ptr<LinearWeight> output;
  NormWeights attention_post_norm;
  NormWeights mlp_norm;
  // In a mixture, what every token goes through; null where that is nothing.
  ExpertWeights mlp;
  NormWeights mlp_post_norm;
  std::unique_ptr<LinearWeight> router;  // Null without a mixture.
  std::unique_ptr<VectorWeight> router_bias;
  std::vector<ExpertWeights> experts;
  std::unique_ptr<LinearWeight> shared_gate;
};

struct DecoderWeights {
  std::unique_ptr<EmbeddingWeight> embedding;  // First stage, as the positions.
  std::unique_ptr<EmbeddingWeight> positions;  // Null without learned ones.
  // Null without; at every position the row of the first type.
  std::unique_ptr<EmbeddingWeight> token_types;
  NormWeights embedding_norm;
  std::vector<DecoderLayer> layers;
  NormWeights final_norm;              // Last stage, as the head.
  std::unique_ptr<LinearWeight> head;  // Null in a model that gives hidden states only.

  [[nodiscard]] uint64_t bytes() const;
};

[[nodiscard]] StatusOr<DecoderWeights> load_decoder_weights(const DecoderConfig& config,
                                                            const DecoderShare& share,
                                                            const Safetensors& tensors,
                                                            Device& device,
                                                            const Progress& progress);

}  // namespace trireme::worker
