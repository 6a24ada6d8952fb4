// Mixtral: Mistral with a mixture of experts in the place of the MLP.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_mixtral(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  return DecoderModel::load(
      {.sizes = config,
       .mixture = MixtureConfig{.expert_count = config.expert_count,
                                .expert_size = config.expert_intermediate_size,
                                .routing = {.experts_per_token = config.experts_per_token,
                                            .renormalises = true},
                                .router = "block_sparse_moe.gate",
                                .experts = "block_sparse_moe.experts",
                                .gate = "w1",
                                .up = "w3",
                                .down = "w2"},
       .window_tokens = windows_of(config)},
      std::move(source));
}

}  // namespace trireme::worker
