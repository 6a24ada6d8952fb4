// Gemma 1.
#include "worker/models/gemma.h"

#include <cmath>

#include "worker/kernels/element.h"

namespace trireme::worker {

DecoderConfig gemma_decoder(const ModelConfig& config, Element element) {
  const float scale = std::sqrt(static_cast<float>(config.hidden_size));
  DecoderConfig decoder{.sizes = config,
                        .qkv_bias = config.attention_bias,
                        .output_bias = config.attention_bias,
                        .norm_added = 1.0F,
                        .window_tokens = no_windows(config)};
  decoder.embedding_scale = element == Element::kBfloat16 ? rounded_to_bfloat16(scale) : scale;
  // The first checkpoints say "gelu" and mean this one; some say nothing.
  const ConfigFields fields = config.fields();
  const bool is_written = fields.has("hidden_act") || fields.has("hidden_activation");
  if (!is_written || config.hidden_act == "gelu") decoder.sizes.hidden_act = "gelu_pytorch_tanh";
  return decoder;
}

Status make_gemma2_like(float logits_cap, DecoderConfig& decoder) {
  decoder.names.attention_post_norm = "post_attention_layernorm";
  decoder.names.mlp_norm = "pre_feedforward_layernorm";
  decoder.names.mlp_post_norm = "post_feedforward_layernorm";
  decoder.logits_soft_cap = logits_cap;
  ConfigFields fields = decoder.sizes.fields();
  fields.read_or_none("final_logit_softcapping", decoder.logits_soft_cap);
  double scalar = 256;
  fields.read("query_pre_attn_scalar", scalar);
  if (scalar <= 0) {
    fields.fail(absl::StrFormat("query_pre_attn_scalar is %g, not above 0", scalar));
  }
  decoder.attention_scale = static_cast<float>(1 / std::sqrt(scalar));
  bool is_bidirectional = false;
  fields.read("use_bidirectional_attention", is_bidirectional);
  if (is_bidirectional) fields.fail("use_bidirectional_attention is true: not supported");
  return fields.status();
}

void set_window_pattern(uint32_t period, ModelConfig& config) {
  if (config.has_layer_types) return;
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    config.layer_is_sliding[layer] = (layer + 1) % period != 0 ? 1 : 0;
  }
}

StatusOr<std::unique_ptr<Model>> make_gemma(ModelSource source) {
  return DecoderModel::load(gemma_decoder(source.directory.config(), source.element),
                            std::move(source));
}

}  // namespace trireme::worker
