// ModelInfo: what the front end needs of a model's directory besides tokenizer and template:
// config.json and generation_config.json. Read once; immutable.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api_server/openai/generate_request.h"
#include "common/status.h"

namespace trireme::api {

struct ModelInfo {
  uint32_t tokens_max = 0;  // max_position_embeddings; 0: it does not say.
  uint32_t vocabulary_size = 0;
  // generation_config's, else config's. Without those beyond the vocabulary, which a line in the
  // log names.
  std::vector<int32_t> eos_token_ids;
  SamplingDefaults defaults;
};

// `generation_config`, as the flag: "auto" (the model's own, if it has one), "vllm" (of the model's
// own only the eos ids), or another directory, which must have one. Errors name the file.
[[nodiscard]] StatusOr<ModelInfo> read_model_info(const std::string& directory,
                                                  const std::string& generation_config);

}  // namespace trireme::api
