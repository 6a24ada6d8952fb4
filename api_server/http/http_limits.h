// HttpLimits: every bound of the HTTP server, in one place. What exceeds one is refused with the
// status named here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace trireme::api {

struct HttpLimits {
  uint32_t header_bytes_max = 64 * 1024;       // 431
  uint64_t body_bytes_max = 32 * 1024 * 1024;  // 413
  std::size_t connections_max = 16 * 1024;     // 503
  std::size_t pipelined_bytes_max =
      128 * 1024;  // After an open request; closed once it is answered.
  std::size_t unsent_bytes_max = 8 * 1024 * 1024;      // A reader slower than its stream is cut.
  Duration header_timeout = std::chrono::seconds(10);  // From a request's first byte; 408
  Duration body_timeout = std::chrono::seconds(60);    // From the end of the header; 408
  Duration idle_timeout = std::chrono::seconds(75);    // Between requests; closed silently.
  Duration write_timeout = std::chrono::seconds(30);   // Unsent bytes and no progress; closed.
  Duration sweep_interval = std::chrono::milliseconds(250);  // How exact the deadlines are.
};

// A header must fit into what is read ahead, or a long one could never be completed.
static_assert(HttpLimits{}.pipelined_bytes_max > HttpLimits{}.header_bytes_max);

}  // namespace trireme::api
