// DeepSeek-V2: experts by softmax, of all or of the groups with the largest ones.
#include "worker/models/decoder.h"
#include "worker/models/deepseek.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_deepseek_v2(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  TRIREME_ASSIGN_OR_RETURN(DecoderConfig decoder, deepseek_decoder(config, {}, 0));
  decoder.turns_neighbours = true;
  std::string scoring = "softmax";
  std::string method = "greedy";
  ConfigFields fields = config.fields();
  fields.read("scoring_func", scoring);
  fields.read("topk_method", method);
  TRIREME_RETURN_IF_ERROR(fields.status());
  TRIREME_RETURN_IF_ERROR(check_choice(config, "scoring_func", scoring, {"softmax"}));
  TRIREME_RETURN_IF_ERROR(
      check_choice(config, "topk_method", method, {"greedy", "group_limited_greedy"}));
  if (config.mlp_bias) {
    return error(StatusCode::kUnimplemented, "%s: mlp_bias is not supported for %s", config.path,
                 config.architecture);
  }
  Routing& routing = decoder.mixture->routing;
  if (routing.renormalises) {
    // Its own code, vLLM and transformers make different weights of it.
    return error(StatusCode::kUnimplemented, "%s: norm_topk_prob is not supported for %s",
                 config.path, config.architecture);
  }
  if (method == "greedy") routing.group_count = routing.groups_per_token = 1;
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
