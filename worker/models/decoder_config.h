// DecoderConfig: how one architecture arranges the shared decoder (decoder.h). An architecture file
// fills it from config.json; nothing below knows an architecture's name.
#pragma once

#include <vector>

#include "worker/weights/model_config.h"

namespace trireme::worker {

struct DecoderConfig {
  ModelConfig sizes;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;       // RMS norm over each head of q and k, before the rope.
  uint32_t expert_count = 0;  // 0: one MLP. Else a router and experts of intermediate_size.
  uint32_t experts_per_token = 0;
  std::vector<uint32_t> window_tokens;  // [layer_count]; 0: all.
};

}  // namespace trireme::worker
