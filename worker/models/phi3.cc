// Phi-3, 3.5 and 4: Mistral with fused projections; the long ones turn by longrope.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_phi3(ModelSource source) {
  ModelConfig config = source.directory.config();
  // Names that longrope had before.
  std::string& rope_type = config.rope_scaling.type;
  if (rope_type == "su" || rope_type == "yarn") rope_type = "longrope";
  DecoderConfig decoder{
      .sizes = config, .qkv_layout = QkvLayout::kStacked, .window_tokens = windows_of(config)};
  decoder.names.qkv = "self_attn.qkv_proj";
  decoder.names.gate_up = "mlp.gate_up_proj";
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
