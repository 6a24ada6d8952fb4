// What this backend refuses when a model is loaded, so that no wrong result ever comes of it.
#pragma once

#include <string>

#include "common/status.h"

namespace trireme::worker::cuda {

[[nodiscard]] inline Status not_yet(const std::string& what) {
  return error(StatusCode::kUnimplemented,
               "--device cuda: %s cannot run on the GPU yet; use --device cpu", what);
}

}  // namespace trireme::worker::cuda
