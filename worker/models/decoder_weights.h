// The weights of one rank's share of a decoder: its layers (pipeline stage) and its slices of each
// (tensor parallelism): q, k, v, gate and up by rows, o and down by columns, the vocabulary by
// rows.
#pragma once

#include <memory>
#include <vector>

#include "worker/device.h"
#include "worker/models/decoder_config.h"
#include "worker/models/registry.h"
#include "worker/models/weight_reader.h"

namespace trireme::worker {

// What this rank has of the whole.
struct DecoderShare {
  Range layers;
  Range query_heads;
  Range kv_heads;  // With more ranks than heads, several ranks hold the same one.
  Range intermediate;
  Range vocabulary;                  // May be cut short on the last rank.
  uint32_t vocabulary_per_rank = 0;  // Rounded up.
  bool is_first_stage = false;
  bool is_last_stage = false;
  bool adds_bias = false;  // Of sums over ranks one rank adds the bias.

  // kInvalidArgument naming the flag, its value and the size that does not divide.
  [[nodiscard]] static StatusOr<DecoderShare> of(const ModelConfig& sizes,
                                                 const WorkerPlace& place);
};

struct NormWeights {
  std::unique_ptr<VectorWeight> weight;  // Null where the architecture has no such norm.
  std::unique_ptr<VectorWeight> bias;    // Null without.

  explicit operator bool() const { return weight != nullptr; }
};

struct DecoderLayer {
  NormWeights attention_norm;
  std::unique_ptr<LinearWeight> qkv;
  std::unique_ptr<VectorWeight> q_norm;  // Null without.
  std::unique_ptr<VectorWeight> k_norm;
  std::unique_ptr<LinearWeight> output;
  NormWeights attention_post_norm;
  NormWeights mlp_norm;
  std::unique_ptr<LinearWeight> gate_up;  // Null in a mixture, as down; up alone without a gate.
  std::unique_ptr<LinearWeight> down;
  NormWeights mlp_post_norm;
  std::unique_ptr<LinearWeight> router;  // Null without a mixture.
  std::vector<ExpertWeights> experts;
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
