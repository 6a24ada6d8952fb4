// Goal: no bytes of a client crash the HTTP parser, and how they are cut into reads changes
// nothing. Method: libFuzzer; the first byte is the cut, the rest is fed in one piece and in pieces
// of that size.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api_server/http/request_parser.h"

namespace trireme::api {
namespace {

std::string parse(std::string_view bytes, std::size_t piece) {
  RequestParser parser(HttpLimits{});
  std::string outcome;
  std::string waiting;
  while (true) {
    if (parser.progress() == RequestParser::Progress::kComplete) {
      const HttpRequest request = parser.take();
      outcome += request.path + "?" + request.query + "|" + request.body + ";";
      continue;
    }
    if (parser.progress() == RequestParser::Progress::kFailed) return outcome;
    const std::size_t consumed = parser.feed(waiting);
    waiting.erase(0, consumed);
    if (consumed > 0 || parser.progress() == RequestParser::Progress::kComplete ||
        parser.progress() == RequestParser::Progress::kFailed) {
      continue;
    }
    if (bytes.empty()) return outcome;
    waiting += bytes.substr(0, piece);
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
}

}  // namespace
}  // namespace trireme::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t piece = 1 + data[0] % 16;
  if (trireme::api::parse(bytes, bytes.size()) != trireme::api::parse(bytes, piece)) std::abort();
  return 0;
}
