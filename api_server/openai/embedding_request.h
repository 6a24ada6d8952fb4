// EmbeddingRequest: /v1/embeddings, validated as far as that needs neither tokenizer nor engine.
// RequestReader::read_embedding (generate_request.h) makes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api_server/openai/generate_request.h"

namespace trireme::api {

struct EmbeddingRequest {
  static constexpr std::size_t kInputsMax = 2048;  // As OpenAI's.

  std::string model;
  std::vector<Prompt> inputs;
  bool as_base64 = false;              // encoding_format
  std::optional<uint32_t> dimensions;  // None: all.
  std::optional<bool> normalize;       // None: as the model's modules say.
  std::optional<int32_t> truncate_prompt_tokens;
  bool add_special_tokens = true;
  std::string user;
  int32_t priority = 0;
};

}  // namespace trireme::api
