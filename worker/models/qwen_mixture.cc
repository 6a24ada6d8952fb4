#include "worker/models/qwen_mixture.h"

namespace trireme::worker {

StatusOr<MixtureConfig> qwen_mixture(const ModelConfig& config) {
  MixtureConfig mixture{.expert_count = config.expert_count,
                        .routing = {.experts_per_token = config.experts_per_token}};
  uint32_t step = 1;
  std::vector<uint32_t> dense_layers;
  ConfigFields fields = config.fields();
  fields.read("moe_intermediate_size", mixture.expert_size);
  fields.read("norm_topk_prob", mixture.routing.renormalises);
  fields.read("decoder_sparse_step", step);
  fields.read("mlp_only_layers", dense_layers);
  if (mixture.expert_size == 0) fields.fail("moe_intermediate_size is missing");
  TRIREME_RETURN_IF_ERROR(fields.status());
  mixture.is_dense.resize(config.layer_count);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    const bool is_listed = std::ranges::find(dense_layers, layer) != dense_layers.end();
    mixture.is_dense[layer] = is_listed || (layer + 1) % step != 0 ? 1 : 0;
  }
  return mixture;
}

}  // namespace trireme::worker
