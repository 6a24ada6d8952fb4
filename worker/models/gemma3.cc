// Gemma 3 (text): Gemma 2 without caps of scores (transformers reads one and uses none), with
// normalised queries and keys, and a rope of its own for the layers with a window. Of the models
// that see images, the language model.
#include "worker/models/gemma.h"

namespace trireme::worker {
namespace {

// The larger ones are published with an image encoder, which text does not need.
std::string prefix_in(const Safetensors& weights) {
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    if (weights.find(prefix + "embed_tokens.weight") != nullptr) return prefix;
  }
  return "model.";
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_gemma3(ModelSource source) {
  constexpr double kLocalTheta = 10000;
  DecoderConfig decoder = gemma_decoder(source.directory.config(), source.element);
  TRIREME_RETURN_IF_ERROR(make_gemma2_like(0, decoder));
  decoder.names.prefix = prefix_in(source.directory.weights());
  ConfigFields fields = decoder.sizes.fields();
  uint32_t period = 6;
  fields.read_any({"_sliding_window_pattern", "sliding_window_pattern"}, period);
  TRIREME_RETURN_IF_ERROR(fields.status());
  set_window_pattern(period, decoder.sizes);
  decoder.window_tokens = windows_of(decoder.sizes);
  if (!decoder.sizes.local_rope_theta) decoder.sizes.local_rope_theta = kLocalTheta;
  decoder.qk_norm = QkNorm::kHead;
  return DecoderModel::load(std::move(decoder), std::move(source));
}

}  // namespace trireme::worker
