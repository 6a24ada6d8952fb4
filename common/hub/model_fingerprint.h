// What tells one model from another, wherever its directory lies: its architecture, and a hash over
// config.json and the name, size and last bytes of each weight file. Two models are the same to us
// if these are; it reads a few pages, not the weights.
#pragma once

#include <string>

#include "common/status.h"

namespace trireme::hub {

[[nodiscard]] StatusOr<std::string> model_fingerprint(const std::string& directory);

}  // namespace trireme::hub
