// trireme serve: becomes the api-server beside it, which starts everything else.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cli/command.h"
#include "common/options/serve_flags.h"
#include "common/process/sibling_binary.h"

namespace trireme::cli {

int run_serve(Arguments arguments) {
  const std::span<const char* const> flags(arguments.data(), arguments.size());
  if (wants_help(flags)) {
    std::fputs(serve_help("trireme serve").c_str(), stdout);
    return 0;
  }
  // Checked here too, so that a typo is answered in this terminal before anything starts.
  if (const auto options = parse_serve_flags(flags); !options.ok()) {
    std::fprintf(stderr, "trireme serve: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  auto program = process::find_sibling_binary("api-server");
  if (!program.ok()) {
    std::fprintf(stderr, "trireme serve: %s\n", std::string(program.status().message()).c_str());
    return 1;
  }
  std::vector<char*> argv = {program->data()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  argv.push_back(nullptr);
  execv(program->c_str(), argv.data());
  std::fprintf(stderr, "trireme serve: %s: %s\n", program->c_str(), std::strerror(errno));
  return 1;
}

}  // namespace trireme::cli
