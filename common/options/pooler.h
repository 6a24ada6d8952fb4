// Whether a model is served for embeddings, and how its hidden states become a vector: --runner,
// --convert and --pooler-config, as in vLLM.
#pragma once

#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

// auto | generate | pooling, and for --convert auto | none | embed. The error has no flag's name.
[[nodiscard]] Status read_runner(std::string_view value, Runner& runner);
[[nodiscard]] Status read_convert(std::string_view value, Runner& runner);

// vLLM's JSON object: pooling_type, normalize (or use_activation). Fields that are not named keep
// their value; what is unknown or does not fit is kInvalidArgument with the field and its value.
[[nodiscard]] Status read_pooler(std::string_view json, PoolerOptions& pooler);

// By its flags; by itself a model whose directory has the modules.json of sentence-transformers is.
[[nodiscard]] bool serves_embeddings(const ServeOptions& options);

}  // namespace trireme
