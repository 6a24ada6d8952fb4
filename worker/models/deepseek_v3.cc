// DeepSeek-V3 and R1: experts by sigmoid with a bias for the choice, of the groups whose two best
// are best together.
#include "worker/models/decoder.h"
#include "worker/models/deepseek.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_deepseek_v3(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  const Routing routing{.score = ExpertScore::kSigmoid,
                        .renormalises = true,
                        .scale = 2.5F,
                        .group_count = 8,
                        .groups_per_token = 4,
                        .group_score = GroupScore::kTopTwo};
  constexpr uint32_t kDenseLayers = 3;
  TRIREME_ASSIGN_OR_RETURN(DecoderConfig decoder, deepseek_decoder(config, routing, kDenseLayers));
  decoder.turns_neighbours = true;
  std::string scoring = "sigmoid";
  std::string method = "noaux_tc";
  ConfigFields fields = config.fields();
  fields.read("rope_interleave", decoder.turns_neighbours);
  fields.read("scoring_func", scoring);
  fields.read("topk_method", method);
  TRIREME_RETURN_IF_ERROR(fields.status());
  TRIREME_RETURN_IF_ERROR(check_choice(config, "scoring_func", scoring, {"sigmoid"}));
  TRIREME_RETURN_IF_ERROR(check_choice(config, "topk_method", method, {"noaux_tc"}));
  decoder.mixture->router_bias = "mlp.gate.e_score_correction_bias";
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
