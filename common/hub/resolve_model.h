// resolve_model: what the user called the model -> the directory it lies in.
//
// A path that exists is taken as it is. Otherwise a hub id is looked for in the hub cache and, if
// it is not there, downloaded from HF_ENDPOINT with a progress line on standard error
// (HF_HUB_OFFLINE=1 forbids that).
#pragma once

#include <filesystem>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::hub {

[[nodiscard]] StatusOr<std::filesystem::path> resolve_model(const ModelOptions& options);

// Likewise the draft model of --speculative-config, which errors name; empty where there is none.
[[nodiscard]] StatusOr<std::filesystem::path> resolve_draft_model(const ServeOptions& options);

}  // namespace trireme::hub
