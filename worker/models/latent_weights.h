// The weights of multi-head latent attention, this rank's heads: what is kept of a token is small,
// so the heads work in its space ("absorbed"): q becomes a query to the latent itself, and what the
// weights of the positions make of the latents becomes the head's output.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/tensor_loader.h"

namespace trireme::worker {

struct LatentWeights {
  // Of the hidden state: [q | latent | rotary key]; q the queries' latent, or the queries.
  std::unique_ptr<LinearWeight> down;
  std::unique_ptr<VectorWeight> q_norm;  // Null, as q_up, without a latent of the queries.
  std::unique_ptr<LinearWeight> q_up;    // Plain parts of all heads, then their rotary parts.
  std::unique_ptr<VectorWeight> kv_norm;
  std::vector<std::unique_ptr<LinearWeight>> key_up;    // Of each head: plain part to latent.
  std::vector<std::unique_ptr<LinearWeight>> value_up;  // Latent to values.

  [[nodiscard]] uint64_t bytes() const;
};

// Of the layer below `prefix`. The arguments are TensorLoader's.
[[nodiscard]] StatusOr<LatentWeights> load_latent_weights(const DecoderConfig& config,
                                                          const DecoderShare& share,
                                                          const Safetensors& tensors,
                                                          Device& device, std::string prefix);

}  // namespace trireme::worker
