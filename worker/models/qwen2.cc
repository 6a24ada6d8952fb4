// Qwen2 and 2.5: biases on q, k and v that config.json does not mention; windows on some layers.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {

StatusOr<std::unique_ptr<Model>> make_qwen2(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  return DecoderModel::load(
      {.sizes = config, .qkv_bias = true, .window_tokens = windows_of(config)}, std::move(source));
}

}  // namespace trireme::worker
