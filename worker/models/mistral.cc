// Mistral: Llama with a sliding window over all layers.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_mistral(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  return DecoderModel::load({.sizes = config, .window_tokens = windows_of(config)},
                            std::move(source));
}

}  // namespace trireme::worker
