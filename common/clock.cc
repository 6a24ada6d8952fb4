#include "common/clock.h"

namespace trireme {

Instant now() { return std::chrono::steady_clock::now(); }

int64_t unix_milliseconds() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
}

}  // namespace trireme
