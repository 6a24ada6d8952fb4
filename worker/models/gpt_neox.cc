// GPT-NeoX and Pythia: layer norms, attention and MLP side by side, a quarter of each head turns.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

constexpr double kPartialRotary = 0.25;

DecoderNames gpt_neox_names() {
  DecoderNames names;
  names.prefix = "gpt_neox.";
  names.embedding = "embed_in";
  names.final_norm = "final_layer_norm";
  names.head = "embed_out";
  names.qkv = "attention.query_key_value";
  names.output = "attention.dense";
  names.gate = "";
  names.up = "mlp.dense_h_to_4h";
  names.down = "mlp.dense_4h_to_h";
  return names;
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_gpt_neox(ModelSource source) {
  ModelConfig config = source.directory.config();
  if (!config.partial_rotary_factor) config.partial_rotary_factor = kPartialRotary;
  bool has_attention_bias = true;
  bool is_parallel = true;
  ConfigFields fields = config.fields();
  fields.read("attention_bias", has_attention_bias);
  fields.read("use_parallel_residual", is_parallel);
  TRIREME_RETURN_IF_ERROR(fields.status());
  return DecoderModel::load({.sizes = config,
                             .names = gpt_neox_names(),
                             .qkv_layout = QkvLayout::kGrouped,
                             .qkv_bias = has_attention_bias,
                             .output_bias = has_attention_bias,
                             .mlp_bias = true,
                             .norm = NormKind::kLayer,
                             .norm_bias = true,
                             .parallel_residual = is_parallel,
                             .window_tokens = no_windows(config)},
                            std::move(source));
}

}  // namespace trireme::worker
