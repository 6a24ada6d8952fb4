#include "cli/bench/server_url.h"

#include <algorithm>
#include <charconv>

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

}  // namespace

std::string ServerUrl::authority() const {
  const bool is_ipv6 = host.find(':') != host.npos;
  return absl::StrFormat(is_ipv6 ? "[%s]:%d" : "%s:%d", host, port);
}

std::string ServerUrl::text() const { return absl::StrFormat("http://%s%s", authority(), prefix); }

StatusOr<ServerUrl> parse_server_url(std::string_view text) {
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    return error(kBad, "'%s': https is not spoken here; give the http address behind it", text);
  }
  if (!rest.starts_with("http://")) return error(kBad, "'%s' does not begin with http://", text);
  rest.remove_prefix(7);
  ServerUrl url;
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  url.prefix = rest.substr(slash);
  while (url.prefix.ends_with('/')) url.prefix.pop_back();
  std::string_view authority = rest.substr(0, slash);
  std::string_view port;
  if (const std::size_t bracket = authority.find(']'); authority.starts_with('[')) {
    if (bracket == authority.npos) return error(kBad, "'%s': no ']' after the host", text);
    url.host = authority.substr(1, bracket - 1);
    port = authority.substr(bracket + 1);
  } else {
    const std::size_t colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  if (url.host.empty()) return error(kBad, "'%s' names no host", text);
  if (port.empty()) return url;
  const auto [end, code] = std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
  if (port[0] != ':' || code != std::errc() || end != port.data() + port.size() || url.port == 0) {
    return error(kBad, "'%s': '%s' is not a port", text, port.substr(1));
  }
  return url;
}

}  // namespace trireme::bench
