// Rope: the angles by which queries and keys turn, by position, with the scalings of transformers
// (default, linear, dynamic, yarn, llama3, longrope). Another type is refused by name.
//
// Angles are a function of the position alone. For `dynamic`, transformers computes them from the
// length of the sequence so far; here a token at position p always gets those of length p + 1,
// which is what transformers gives when it decodes token by token. For `longrope`, transformers
// changes from the short to the long factors for a whole sequence when it outgrows the original
// context; here, as in vLLM, all sequences turn by the long ones where the longest that is served
// (`tokens_max`) lies beyond that context, and by the short ones where it does not.
//
// Threads: one. Cosines and sines are kept for all positions seen so far.
#pragma once

#include <span>
#include <vector>

#include "common/status.h"
#include "worker/device.h"
#include "worker/weights/model_config.h"

namespace trireme::worker {

// By what yarn stretches the angles' cosines and sines, or a model its scores.
[[nodiscard]] double yarn_magnitude(double factor, double mscale);

class Rope {
 public:
  // rotary_size: the leading part of a head that turns; even, 0 for none. tokens_max: of a
  // sequence; 0: the model's max_position_embeddings.
  [[nodiscard]] static StatusOr<Rope> make(const ModelConfig& config, uint32_t rotary_size,
                                           uint32_t tokens_max = 0);

  // Valid until the next call.
  [[nodiscard]] RotaryAngles angles(std::span<const int32_t> positions);

 private:
  Rope() = default;
  void extend_to(uint32_t position_count);
  [[nodiscard]] float frequency(uint32_t pair, uint32_t position) const;

  uint32_t rotary_size_ = 0;
  float attention_factor_ = 1.0F;
  std::vector<float> inverse_frequencies_;  // [rotary_size / 2]
  // Only for `dynamic`: beyond this many positions the base grows.
  uint32_t dynamic_from_ = 0;
  double dynamic_factor_ = 1.0;
  double theta_ = 10000.0;

  uint32_t position_count_ = 0;  // In the tables.
  std::vector<float> cosine_table_;
  std::vector<float> sine_table_;
  std::vector<float> cosines_;
  std::vector<float> sines_;
};

}  // namespace trireme::worker
