// trireme serve: becomes the api-server beside it, which starts everything else; with --headless
// the node agent.
#include <cstdio>
#include <string>

#include "cli/command.h"
#include "common/device/device_choice.h"
#include "common/options/serve_flags.h"
#include "common/process/sibling_binary.h"

namespace trireme::cli {
namespace {

// Here too, so that a typo, or a GPU that is not there, is answered in this terminal before
// anything starts.
StatusOr<ServeOptions> checked_options(std::span<const char* const> flags) {
  TRIREME_ASSIGN_OR_RETURN(ServeOptions options, parse_serve_flags(flags));
  if (options.worker.device == DeviceKind::kCuda) {
    TRIREME_RETURN_IF_ERROR(choose_device(options).status());
  }
  return options;
}

}  // namespace

int run_serve(Arguments arguments) {
  const std::span<const char* const> flags(arguments.data(), arguments.size());
  if (const std::string text = help_or_version("trireme serve", flags); !text.empty()) {
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  const auto options = checked_options(flags);
  if (!options.ok()) {
    std::fprintf(stderr, "trireme serve: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  const bool is_headless = options->parallel.headless;
  const Status status =
      process::become_sibling_binary(is_headless ? "engine-core" : "api-server", flags);
  std::fprintf(stderr, "trireme serve: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace trireme::cli
