// Mixtral: Mistral with a mixture of experts in the place of the MLP.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_mixtral(ModelSource source) {
  ModelConfig config = source.directory.config();
  config.intermediate_size = config.expert_intermediate_size;
  return DecoderModel::load({.sizes = config,
                             .expert_count = config.expert_count,
                             .experts_per_token = config.experts_per_token,
                             .window_tokens = windows_of(config)},
                            std::move(source));
}

}  // namespace trireme::worker
