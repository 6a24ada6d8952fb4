// OLMo 2: norms behind the blocks and none before; queries and keys are normalised whole.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_olmo2(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  DecoderConfig decoder{.sizes = config,
                        .qkv_bias = config.attention_bias,
                        .output_bias = config.attention_bias,
                        .qk_norm = QkNorm::kWide,
                        .window_tokens = no_windows(config)};
  decoder.names.attention_norm = "";
  decoder.names.attention_post_norm = "post_attention_layernorm";
  decoder.names.mlp_norm = "";
  decoder.names.mlp_post_norm = "post_feedforward_layernorm";
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
