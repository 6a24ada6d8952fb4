#include "worker/weights/architectures.h"

#include <algorithm>

namespace trireme::worker {

std::string architecture_names() {
  std::string names;
  for (const std::string_view name : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += name;
  }
  return names;
}

Status check_architecture(std::string_view architecture, std::string_view path) {
  if (std::ranges::find(kArchitectures, architecture) != kArchitectures.end()) {
    return absl::OkStatus();
  }
  return error(StatusCode::kInvalidArgument,
               "%s: architecture \"%s\" is not supported; supported are %s", path, architecture,
               architecture_names());
}

}  // namespace trireme::worker
