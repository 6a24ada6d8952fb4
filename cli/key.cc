// trireme key new: a fresh cluster key on standard output, and on a terminal how to use it.
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "cli/command.h"
#include "common/zmq/cluster_key.h"

namespace trireme::cli {

int run_key(Arguments arguments) {
  if (arguments.size() != 1 || std::string_view(arguments[0]) != "new") {
    std::fputs("usage: trireme key new > cluster.key\n", stderr);
    return 2;
  }
  std::printf("%s\n", zmq::ClusterKey::generate().text().c_str());
  if (isatty(STDOUT_FILENO) == 1) {
    std::fputs(
        "\nKeep it secret: whoever has it can join the cluster. On every node, either\n"
        "  umask 077; mkdir -p ~/.config/trireme; trireme key new > ~/.config/trireme/cluster.key\n"
        "once, and copy that file to the others; or set TRIREME_CLUSTER_KEY to the line above.\n",
        stderr);
  }
  return 0;
}

}  // namespace trireme::cli
