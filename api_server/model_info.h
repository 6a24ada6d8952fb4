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
  std::vector<int32_t> eos_token_ids;  // generation_config's, else config's.
  SamplingDefaults defaults;
};

// Errors name the file. A generation_config.json that is not there is no error.
[[nodiscard]] StatusOr<ModelInfo> read_model_info(const std::string& directory);

}  // namespace trireme::api
