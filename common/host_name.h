// The name of this host, as members of the cluster give it; "unknown" when the system has none.
#pragma once

#include <string>

namespace trireme {

[[nodiscard]] std::string host_name();

}  // namespace trireme
