// trireme pull ID: downloads a model into the hub cache and prints where it lies.
#include <cstdio>
#include <string>

#include "cli/command.h"
#include "common/hub/resolve_model.h"

namespace trireme::cli {

int run_pull(Arguments arguments) {
  if (arguments.empty() || arguments[0][0] == '-') {
    std::fputs("usage: trireme pull MODEL [REVISION]\n", stderr);
    return 2;
  }
  ModelOptions options;
  options.model = arguments[0];
  if (arguments.size() > 1) options.revision = arguments[1];
  const auto directory = hub::resolve_model(options);
  if (!directory.ok()) {
    std::fprintf(stderr, "trireme pull: %s\n", std::string(directory.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", directory->c_str());
  return 0;
}

}  // namespace trireme::cli
