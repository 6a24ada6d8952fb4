// ServerUrl: where the server is: http://HOST[:PORT][/PREFIX]. IPv6 hosts stand in brackets. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::bench {

struct ServerUrl {
  std::string host;  // Without brackets.
  uint16_t port = 80;
  std::string prefix;  // Before every path; empty or "/x".

  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string authority() const;  // The Host header.
};

// The error says what is wrong with `text`.
[[nodiscard]] StatusOr<ServerUrl> parse_server_url(std::string_view text);

}  // namespace trireme::bench
