// Qwen2-MoE and Qwen1.5-MoE: Qwen2 with a mixture of experts, and one that every token goes through
// by a gate of its own.
#include "worker/models/decoder.h"
#include "worker/models/qwen_mixture.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_qwen2_moe(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  DecoderConfig decoder{.sizes = config, .qkv_bias = true, .window_tokens = windows_of(config)};
  TRIREME_ASSIGN_OR_RETURN(MixtureConfig mixture, qwen_mixture(config));
  mixture.shared = "mlp.shared_expert";
  mixture.shared_gate = "mlp.shared_expert_gate";
  ConfigFields fields = config.fields();
  fields.read("qkv_bias", decoder.qkv_bias);
  mixture.shared_size = config.shared_expert_size;
  if (mixture.shared_size == 0) fields.fail("shared_expert_intermediate_size is missing");
  TRIREME_RETURN_IF_ERROR(fields.status());
  decoder.mixture = std::move(mixture);
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
