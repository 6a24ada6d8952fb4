#include "api_server/http/query.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace trireme::api {
namespace {

// Of "%41..." the byte; none: no two hexadecimal digits.
std::optional<char> unescaped(std::string_view text) {
  if (text.size() < 3) return std::nullopt;
  unsigned char byte = 0;
  const auto [end, code] = std::from_chars(text.data() + 1, text.data() + 3, byte, 16);
  if (code != std::errc() || end != text.data() + 3) return std::nullopt;
  return static_cast<char>(byte);
}

std::string plain(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::optional<char> byte = text[i] == '%' ? unescaped(text.substr(i)) : std::nullopt;
    if (byte) {
      out += *byte;
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> query_values(std::string_view query, std::string_view name) {
  std::vector<std::string> found;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = std::min(part.find('='), part.size());
    if (plain(part.substr(0, equals)) != name) continue;
    found.push_back(plain(part.substr(std::min(equals + 1, part.size()))));
  }
  return found;
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  std::vector<std::string> found = query_values(query, name);
  if (found.empty()) return std::nullopt;
  return std::move(found.back());
}

}  // namespace trireme::api
