// GPT-2: learned positions, layer norms, one fused projection, matrices stored as their transpose.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

DecoderNames names_in(const Safetensors& weights) {
  DecoderNames names;
  // The first checkpoints were saved without the head, and so without its prefix.
  const bool has_prefix = weights.find("transformer.wte.weight") != nullptr;
  names.prefix = has_prefix ? "transformer." : "";
  names.embedding = "wte";
  names.positions = "wpe";
  names.layers = "h";
  names.final_norm = "ln_f";
  names.attention_norm = "ln_1";
  names.qkv = "attn.c_attn";
  names.output = "attn.c_proj";
  names.mlp_norm = "ln_2";
  names.gate = "";
  names.up = "mlp.c_fc";
  names.down = "mlp.c_proj";
  return names;
}

Status refuse_variants(const ModelConfig& config) {
  ConfigFields fields = config.fields();
  bool is_scaled = true;
  bool is_scaled_by_layer = false;
  fields.read("scale_attn_weights", is_scaled);
  fields.read("scale_attn_by_inverse_layer_idx", is_scaled_by_layer);
  if (!is_scaled) fields.fail("scale_attn_weights is false: not supported");
  if (is_scaled_by_layer) fields.fail("scale_attn_by_inverse_layer_idx is true: not supported");
  return fields.status();
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_gpt2(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  TRIREME_RETURN_IF_ERROR(refuse_variants(config));
  return DecoderModel::load({.sizes = config,
                             .names = names_in(source.directory.weights()),
                             .is_transposed = true,
                             .qkv_layout = QkvLayout::kStacked,
                             .qkv_bias = true,
                             .output_bias = true,
                             .mlp_bias = true,
                             .norm = NormKind::kLayer,
                             .norm_bias = true,
                             .window_tokens = no_windows(config),
                             .ropes = no_ropes(config)},
                            std::move(source));
}

}  // namespace trireme::worker
