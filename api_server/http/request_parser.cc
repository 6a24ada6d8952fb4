#include "api_server/http/request_parser.h"

#include <optional>

#include "api_server/http/asio.h"
#include "common/check.h"
#include "common/status.h"

namespace trireme::api {
namespace http = beast::http;
namespace {

Method method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get:
      return Method::kGet;
    case http::verb::head:
      return Method::kHead;
    case http::verb::post:
      return Method::kPost;
    default:
      return Method::kOther;
  }
}

std::string text_of(beast::string_view text) { return std::string(text.data(), text.size()); }

// "http://host:1/path" is as good as "/path".
beast::string_view without_authority(beast::string_view target) {
  for (const beast::string_view scheme : {"http://", "https://"}) {
    if (!beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const std::size_t path = target.find_first_of("/?", scheme.size());
    if (path == beast::string_view::npos || target[path] == '?') return "/";
    return target.substr(path);
  }
  return target;
}

// Empty lines before a request, which some clients send after a body.
std::size_t empty_lines(std::string_view bytes) {
  std::size_t size = 0;
  while (bytes.substr(size).starts_with("\r\n")) size += 2;
  return size;
}

}  // namespace

struct RequestParser::Parser {
  std::optional<http::request_parser<http::string_body>> http;
};

RequestParser::RequestParser(const HttpLimits& limits)
    : limits_(limits), parser_(std::make_unique<Parser>()) {}
RequestParser::~RequestParser() = default;

std::size_t RequestParser::feed(std::string_view bytes) try {
  if (progress_ == Progress::kComplete || progress_ == Progress::kFailed) return 0;
  if (!parser_->http) {
    if (const std::size_t size = empty_lines(bytes); size > 0) return size;
    if (bytes.empty() || bytes == "\r") return 0;  // "\r": half of one.
    auto& http = parser_->http.emplace();
    http.header_limit(limits_.header_bytes_max);
    http.body_limit(limits_.body_bytes_max);
    http.eager(false);  // Fields behind a chunked body must not be there when the header is read.
  }
  auto& http = *parser_->http;
  std::size_t consumed = 0;
  while (consumed < bytes.size() && !http.is_done()) {
    ErrorCode code;
    const std::size_t used =
        http.put(asio::const_buffer(bytes.data() + consumed, bytes.size() - consumed), code);
    consumed += used;
    if (http.is_header_done() && progress_ == Progress::kHeader) {
      read_header();
      http.eager(true);
    }
    if (progress_ == Progress::kFailed) return consumed;
    if (code == http::error::need_more) break;
    if (code == http::error::header_limit) {
      fail(431, "the request header is too large");
      return consumed;
    }
    if (code == http::error::body_limit) {
      fail_too_large();
      return consumed;
    }
    if (code) {
      fail(400, "malformed HTTP request");
      return consumed;
    }
    if (used == 0) break;
  }
  // Beast looks at its header limit only when the header is complete.
  if (progress_ == Progress::kHeader && bytes.size() - consumed > limits_.header_bytes_max) {
    fail(431, "the request header is too large");
  }
  if (http.is_done()) {
    request_.body = std::move(http.get().body());
    continue_wanted_ = false;
    progress_ = Progress::kComplete;
  }
  return consumed;
} catch (const std::exception&) {  // bad_alloc and length_error of an absurd Content-Length.
  fail_too_large();
  return 0;
}

void RequestParser::read_header() {
  progress_ = Progress::kBody;
  const auto& message = parser_->http->get();
  request_.method = method_of(message.method());
  const beast::string_view target = without_authority(message.target());
  const std::size_t question = target.find('?');
  request_.path = text_of(target.substr(0, question));
  if (question != beast::string_view::npos) request_.query = text_of(target.substr(question + 1));
  request_.authorization = text_of(message[http::field::authorization]);
  request_.request_id = text_of(message["X-Request-Id"]);
  const auto rank = message.find("X-data-parallel-rank");
  if (rank != message.end()) request_.data_parallel_rank = text_of(rank->value());
  request_.keep_alive = message.keep_alive();
  request_.is_http_1_0 = message.version() < 11;
  request_.expects_continue = beast::iequals(message[http::field::expect], "100-continue");
  continue_wanted_ = request_.expects_continue && !request_.is_http_1_0;
  check_header();
}

void RequestParser::check_header() {
  const auto& message = parser_->http->get();
  const auto has = [&](http::field field) { return message.find(field) != message.end(); };
  if (has(http::field::content_length) && has(http::field::transfer_encoding)) {
    return fail(400, "Content-Length and Transfer-Encoding together");
  }
  if (!request_.is_http_1_0 && message.count(http::field::host) != 1) {
    return fail(400, "an HTTP/1.1 request needs one Host header");
  }
  if (has(http::field::transfer_encoding) &&
      !beast::iequals(message[http::field::transfer_encoding], "chunked")) {
    return fail(501, "Transfer-Encoding: only chunked is known here");
  }
  const beast::string_view encoding = message[http::field::content_encoding];
  if (!encoding.empty() && !beast::iequals(encoding, "identity")) {
    return fail(415, "Content-Encoding: a body must come as it is, uncompressed");
  }
}

bool RequestParser::take_continue() { return std::exchange(continue_wanted_, false); }

HttpRequest RequestParser::take() {
  TRIREME_CHECK(progress_ == Progress::kComplete, "only a complete request can be taken");
  parser_->http.reset();
  progress_ = Progress::kHeader;
  return std::exchange(request_, HttpRequest{});
}

void RequestParser::fail(uint16_t status, std::string_view why) {
  progress_ = Progress::kFailed;
  failure_status_ = status;
  failure_ = why;
}

void RequestParser::fail_too_large() {
  fail(413, absl::StrFormat("the request body is larger than %u bytes", limits_.body_bytes_max));
}

HttpReply RequestParser::failure() const {
  HttpReply reply = error_reply(failure_status_, "invalid_request_error", failure_);
  reply.close = true;
  return reply;
}

}  // namespace trireme::api
