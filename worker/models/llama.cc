// Llama 1 to 3.3 and everything that took over its layout.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_llama(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  return DecoderModel::load({.sizes = config,
                             .qkv_bias = config.attention_bias,
                             .output_bias = config.attention_bias,
                             .mlp_bias = config.mlp_bias,
                             .window_tokens = no_windows(config)},
                            std::move(source));
}

}  // namespace trireme::worker
