// RequestParser: bytes of a connection -> HttpRequest, one request after the other. No socket.
//
//   consumed = parser.feed(bytes);      // the caller keeps bytes[consumed..] and adds to them
//   switch (parser.progress()) ...      // kComplete: take(), which makes it ready for the next
//
// The result does not depend on how the bytes were cut into feeds. HTTP/1.0 and 1.1, bodies by
// Content-Length or chunked. Refused: header or body over the limit, anything malformed, both
// Content-Length and Transfer-Encoding.
// Threads: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "api_server/http/http_limits.h"
#include "api_server/http/http_request.h"

namespace trireme::api {

class RequestParser {
 public:
  enum class Progress : uint8_t { kHeader, kBody, kComplete, kFailed };

  explicit RequestParser(const HttpLimits& limits);
  ~RequestParser();

  // Consumes what it can; never beyond the end of the request, nothing after a failure.
  std::size_t feed(std::string_view bytes);
  [[nodiscard]] Progress progress() const { return progress_; }
  // Once per request: the header is in, the client waits for "100 Continue" and sent no body yet.
  [[nodiscard]] bool take_continue();
  [[nodiscard]] HttpRequest take();  // kComplete only.
  // kFailed only. The connection cannot go on: where the next request begins is unknown.
  [[nodiscard]] HttpReply failure() const;

 private:
  struct Parser;  // Beast's, behind a wall: it costs seconds of compile time.
  void fail(uint16_t status, std::string_view why);
  void fail_too_large();
  void read_header();
  void check_header();

  const HttpLimits limits_;
  std::unique_ptr<Parser> parser_;
  Progress progress_ = Progress::kHeader;
  HttpRequest request_;
  bool continue_wanted_ = false;
  uint16_t failure_status_ = 0;
  std::string failure_;
};

}  // namespace trireme::api
