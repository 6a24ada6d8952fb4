// What the generations of Gemma share: norms that store weight - 1, scaled embeddings, a GELU gate.
#pragma once

#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

// Gemma 1's decoder. `element`: what the model computes in; the embedding's scale is rounded to it.
[[nodiscard]] DecoderConfig gemma_decoder(const ModelConfig& config, Element element);

// Makes it Gemma 2's: a norm behind each block too, and the scale and the logits' cap that
// config.json gives; `logits_cap` where it gives none (0: no cap).
[[nodiscard]] Status make_gemma2_like(float logits_cap, DecoderConfig& decoder);

// Layers of config.json without layer_types: each `period`th sees all positions.
void set_window_pattern(uint32_t period, ModelConfig& config);

}  // namespace trireme::worker
