// SmolLM3: Llama whose every fourth layer does not turn its heads; a window is on those alone.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

StatusOr<std::vector<LayerRope>> read_ropes(const ModelConfig& config) {
  ConfigFields fields = config.fields();
  uint32_t interval = 4;
  fields.read("no_rope_layer_interval", interval);
  std::vector<uint32_t> has_rope;
  fields.read("no_rope_layers", has_rope);
  if (!has_rope.empty() && has_rope.size() < config.layer_count) {
    fields.fail("no_rope_layers does not have one entry per layer");
  }
  TRIREME_RETURN_IF_ERROR(fields.status());
  std::vector<LayerRope> ropes(config.layer_count);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    const bool turns = has_rope.empty() ? (layer + 1) % interval != 0 : has_rope[layer] != 0;
    ropes[layer] = turns ? LayerRope::kGlobal : LayerRope::kNone;
  }
  return ropes;
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_smollm3(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  DecoderConfig decoder{.sizes = config,
                        .qkv_bias = config.attention_bias,
                        .output_bias = config.attention_bias,
                        .mlp_bias = config.mlp_bias,
                        .window_tokens = windows_of(config)};
  TRIREME_ASSIGN_OR_RETURN(decoder.ropes, read_ropes(config));
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    const bool turns = decoder.ropes[layer] != LayerRope::kNone;
    if (turns && !config.has_layer_types) decoder.window_tokens[layer] = 0;
  }
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
