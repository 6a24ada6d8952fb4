#include "worker/models/deepseek.h"

#include <cmath>

#include "worker/models/rope.h"

namespace trireme::worker {
namespace {

float score_scale(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  double scale = 1.0 / std::sqrt(config.latent->plain_size + config.latent->rope_size);
  if (scaling.type != "default" && scaling.mscale_all_dim != 0) {
    const double magnitude = yarn_magnitude(scaling.factor, scaling.mscale_all_dim);
    scale *= magnitude * magnitude;
  }
  return static_cast<float>(scale);
}

StatusOr<MixtureConfig> read_mixture(const ModelConfig& config, const Routing& routing,
                                     uint32_t dense_layers) {
  MixtureConfig mixture{.expert_count = config.expert_count,
                        .expert_size = config.expert_intermediate_size,
                        .routing = routing,
                        .shared_size = config.shared_expert_size,
                        .shared = "mlp.shared_experts"};
  uint32_t frequency = 1;
  mixture.routing.experts_per_token = config.experts_per_token;
  ConfigFields fields = config.fields();
  fields.read("first_k_dense_replace", dense_layers, 0);
  fields.read("moe_layer_freq", frequency);
  fields.read("norm_topk_prob", mixture.routing.renormalises);
  fields.read("routed_scaling_factor", mixture.routing.scale);
  fields.read("n_group", mixture.routing.group_count);
  fields.read("topk_group", mixture.routing.groups_per_token);
  TRIREME_RETURN_IF_ERROR(fields.status());
  mixture.is_dense.resize(config.layer_count);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    mixture.is_dense[layer] = layer < dense_layers || layer % frequency != 0 ? 1 : 0;
  }
  return mixture;
}

}  // namespace

Status check_choice(const ModelConfig& config, const char* field, const std::string& value,
                    std::initializer_list<std::string_view> supported) {
  std::string names;
  for (const std::string_view name : supported) {
    if (name == value) return absl::OkStatus();
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return error(StatusCode::kUnimplemented,
               "%s: %s \"%s\" is not supported for %s; supported are %s", config.path, field, value,
               config.architecture, names);
}

StatusOr<DecoderConfig> deepseek_decoder(const ModelConfig& config, const Routing& routing,
                                         uint32_t dense_layers) {
  if (!config.latent) {
    return error(StatusCode::kInvalidArgument, "%s: model_type \"%s\" is not that of %s",
                 config.path, config.model_type, config.architecture);
  }
  if (config.attention_bias) {
    return error(StatusCode::kUnimplemented, "%s: attention_bias is not supported for %s",
                 config.path, config.architecture);
  }
  DecoderConfig decoder{
      .sizes = config, .attention_scale = score_scale(config), .window_tokens = no_windows(config)};
  // All heads share the one row that is kept of a token.
  decoder.sizes.kv_head_count = 1;
  decoder.sizes.head_dim = config.latent->kv_rank + config.latent->rope_size;
  TRIREME_ASSIGN_OR_RETURN(decoder.mixture, read_mixture(config, routing, dense_layers));
  return decoder;
}

}  // namespace trireme::worker
