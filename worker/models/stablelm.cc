// StableLM 3B and StableLM 2: Llama with layer norms and a quarter of each head turning; the 12B
// runs attention and MLP side by side and normalises each head.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_stablelm(ModelSource source) {
  constexpr double kPartialRotary = 0.25;
  ModelConfig config = source.directory.config();
  if (!config.partial_rotary_factor) config.partial_rotary_factor = kPartialRotary;
  DecoderConfig decoder{.sizes = config,
                        .norm = NormKind::kLayer,
                        .norm_bias = true,
                        .window_tokens = no_windows(config)};
  bool has_head_norms = false;
  ConfigFields fields = config.fields();
  fields.read("use_qkv_bias", decoder.qkv_bias);
  fields.read("use_parallel_residual", decoder.parallel_residual);
  fields.read("qk_layernorm", has_head_norms);
  TRIREME_RETURN_IF_ERROR(fields.status());
  if (has_head_norms) decoder.qk_norm = QkNorm::kHeadLayer;
  if (decoder.parallel_residual) decoder.names.mlp_norm = "";
  decoder.names.q_norm = "self_attn.q_layernorm";
  decoder.names.k_norm = "self_attn.k_layernorm";
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
