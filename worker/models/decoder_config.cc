#include "worker/models/decoder_config.h"

#include <array>

namespace trireme::worker {
namespace {

struct ActivationName {
  std::string_view name;
  Activation activation;
};

constexpr std::array kActivations = {
    ActivationName{"silu", Activation::kSilu},
    ActivationName{"swish", Activation::kSilu},
    ActivationName{"gelu", Activation::kGelu},
    ActivationName{"gelu_new", Activation::kGeluTanh},
    ActivationName{"gelu_fast", Activation::kGeluTanh},
    ActivationName{"gelu_pytorch_tanh", Activation::kGeluTanh},
};

}  // namespace

Status check_mixture(const MixtureConfig& mixture) {
  const Routing& routing = mixture.routing;
  if (mixture.expert_count == 0 || mixture.expert_count > kExpertsMax) {
    return error(StatusCode::kInvalidArgument,
                 "config.json: a mixture of %d experts; supported are 1 to %d",
                 mixture.expert_count, kExpertsMax);
  }
  const uint32_t group_size = mixture.expert_count / routing.group_count;
  if (group_size * routing.group_count != mixture.expert_count ||
      (routing.group_count > 1 && routing.group_score == GroupScore::kTopTwo && group_size < 2)) {
    return error(StatusCode::kInvalidArgument, "config.json: %d experts do not make n_group %d",
                 mixture.expert_count, routing.group_count);
  }
  if (routing.groups_per_token > routing.group_count ||
      routing.experts_per_token > routing.groups_per_token * group_size) {
    return error(
        StatusCode::kInvalidArgument,
        "config.json: num_experts_per_tok %d of topk_group %d groups of %d experts, n_group "
        "is %d",
        routing.experts_per_token, routing.groups_per_token, group_size, routing.group_count);
  }
  return absl::OkStatus();
}

std::vector<uint32_t> windows_of(const ModelConfig& config) {
  std::vector<uint32_t> windows(config.layer_count);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    windows[layer] = config.window_of_layer(layer);
  }
  return windows;
}

std::vector<uint32_t> no_windows(const ModelConfig& config) {
  return std::vector<uint32_t>(config.layer_count, 0);
}

std::vector<LayerRope> ropes_of(const ModelConfig& config) {
  std::vector<LayerRope> ropes(config.layer_count, LayerRope::kGlobal);
  if (!config.local_rope_theta.has_value()) return ropes;
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    if (config.layer_is_sliding[layer] != 0) ropes[layer] = LayerRope::kLocal;
  }
  return ropes;
}

std::vector<LayerRope> no_ropes(const ModelConfig& config) {
  return std::vector<LayerRope>(config.layer_count, LayerRope::kNone);
}

StatusOr<Activation> activation_of(const ModelConfig& config) {
  std::string names;
  for (const ActivationName& known : kActivations) {
    if (known.name == config.hidden_act) return known.activation;
    if (!names.empty()) names += ", ";
    names += known.name;
  }
  return error(StatusCode::kInvalidArgument,
               "config.json: hidden_act \"%s\" is not supported for %s; supported are %s",
               config.hidden_act, config.architecture, names);
}

}  // namespace trireme::worker
