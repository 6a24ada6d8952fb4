// Qwen3-MoE: Qwen3 with a mixture of experts.
#include "worker/models/decoder.h"
#include "worker/models/qwen_mixture.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_qwen3_moe(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  DecoderConfig decoder{.sizes = config,
                        .qkv_bias = config.attention_bias,
                        .output_bias = config.attention_bias,
                        .qk_norm = QkNorm::kHead,
                        .window_tokens = windows_of(config)};
  TRIREME_ASSIGN_OR_RETURN(decoder.mixture, qwen_mixture(config));
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
