// Gemma 2: norms behind the blocks, capped scores and logits, a window on every other layer.
#include "worker/models/gemma.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_gemma2(ModelSource source) {
  constexpr float kAttentionCap = 50.0F;
  constexpr float kLogitsCap = 30.0F;
  DecoderConfig decoder = gemma_decoder(source.directory.config(), source.element);
  TRIREME_RETURN_IF_ERROR(make_gemma2_like(kLogitsCap, decoder));
  decoder.attention_soft_cap = kAttentionCap;
  ConfigFields fields = decoder.sizes.fields();
  fields.read_or_none("attn_logit_softcapping", decoder.attention_soft_cap);
  TRIREME_RETURN_IF_ERROR(fields.status());
  set_window_pattern(2, decoder.sizes);
  decoder.window_tokens = windows_of(decoder.sizes);
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
