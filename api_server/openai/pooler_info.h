// PoolerInfo: how a model that is served for embeddings makes a vector of a prompt, as its
// directory says: the modules.json of sentence-transformers with the pooling's config.json, and
// config.json. Read once; immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"
#include "proto/sampling_params.h"

namespace trireme::api {

struct PoolerInfo {
  wire::Pooling pooling = wire::Pooling::kLast;
  bool normalises = true;
  uint32_t dimensions = 0;         // Of the vector as it comes: hidden_size.
  bool can_be_cut = false;         // To fewer dimensions (Matryoshka).
  std::vector<uint32_t> cuts;      // The only ones it can be cut to; empty: any.
  uint32_t prompt_tokens_max = 0;  // max_seq_length; 0: as the model has it.
};

// Nothing: the model generates text. Where the directory has no modules.json an encoder takes the
// first token's state, a decoder the last one's, both normalised. kInvalidArgument or
// kUnimplemented naming the file or flag, the field and the value.
[[nodiscard]] StatusOr<std::optional<PoolerInfo>> read_pooler_info(const ServeOptions& options);

}  // namespace trireme::api
