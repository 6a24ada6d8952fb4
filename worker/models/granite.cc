// Granite 3 (dense): Llama with a multiplier at each joint.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_granite(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  DecoderConfig decoder{.sizes = config,
                        .qkv_bias = config.attention_bias,
                        .output_bias = config.attention_bias,
                        .mlp_bias = config.mlp_bias,
                        .attention_scale = 1.0F,
                        .window_tokens = no_windows(config)};
  ConfigFields fields = config.fields();
  fields.read("embedding_multiplier", decoder.embedding_scale);
  fields.read("residual_multiplier", decoder.residual_scale);
  fields.read("attention_multiplier", decoder.attention_scale);
  float logits_divisor = 1.0F;
  fields.read("logits_scaling", logits_divisor);
  if (logits_divisor == 0.0F) fields.fail("logits_scaling is 0");
  TRIREME_RETURN_IF_ERROR(fields.status());
  decoder.logits_scale = 1.0F / logits_divisor;
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
