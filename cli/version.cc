#include <cstdio>

#include "cli/command.h"
#include "common/version.h"

namespace trireme::cli {

int run_version(Arguments) {
  std::printf("trireme %s\n", kVersion);
  return 0;
}

}  // namespace trireme::cli
