// Qwen3: each head of q and k is normalised before the rope.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_qwen3(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  return DecoderModel::load({.sizes = config,
                             .qkv_bias = config.attention_bias,
                             .output_bias = config.attention_bias,
                             .qk_norm = QkNorm::kHead,
                             .window_tokens = windows_of(config)},
                            std::move(source));
}

}  // namespace trireme::worker
