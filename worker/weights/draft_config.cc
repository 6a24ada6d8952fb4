#include "worker/weights/draft_config.h"

namespace trireme::worker {

StatusOr<uint32_t> check_draft_config(const ServeOptions& options, const ModelConfig& model,
                                      const ModelConfig& draft) {
  const SpeculationOptions& speculation = options.scheduler.speculation;
  if (draft.vocabulary_size != model.vocabulary_size) {
    return error(StatusCode::kInvalidArgument,
                 "the draft model %s has a vocabulary of %u tokens, the model "
                 "%s one of %u: a draft model must have the model's own vocabulary",
                 speculation.model, draft.vocabulary_size, options.model.model,
                 model.vocabulary_size);
  }
  const uint32_t asked = speculation.model_tokens_max;
  if (asked > draft.positions_max) {
    return error(StatusCode::kInvalidArgument,
                 "max_model_len %u is more than the draft model's "
                 "max_position_embeddings %u",
                 asked, draft.positions_max);
  }
  return asked > 0 ? asked : draft.positions_max;
}

}  // namespace trireme::worker
