// Where a place takes in rows from other nodes, as proto/step.h carries it:
//
//   tcp://10.0.0.1:40713#9f86d081884c7d65
//
// Behind the # is its life, new with each start: a port may come to somebody else, a life does not.
// Pure.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::worker {

struct ExpertAddress {
  std::string endpoint;
  uint64_t life = 0;
  friend bool operator==(const ExpertAddress&, const ExpertAddress&) = default;
};

[[nodiscard]] inline std::string text_of(const ExpertAddress& address) {
  return absl::StrFormat("%s#%016x", address.endpoint, address.life);
}

[[nodiscard]] inline StatusOr<ExpertAddress> parse_expert_address(std::string_view text) {
  const std::size_t mark = text.rfind('#');
  ExpertAddress address{.endpoint = std::string(text.substr(0, mark))};
  if (mark != text.npos && mark > 0) {
    const char* const last = text.data() + text.size();
    const auto [end, code] = std::from_chars(text.data() + mark + 1, last, address.life, 16);
    if (code == std::errc() && end == last && address.life != 0) return address;
  }
  return error(StatusCode::kInvalidArgument, "\"%s\" is no address of a place", text);
}

}  // namespace trireme::worker
