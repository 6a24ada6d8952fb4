#include "cli/bench/http_exchange.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <exception>

namespace trireme::bench {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using ErrorCode = boost::system::error_code;

constexpr asio::use_awaitable_t<Executor> kAwait;
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr uint32_t kHeaderBytesMax = 64 * 1024;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

Status broken(const char* what, const ErrorCode& code) {
  return error(StatusCode::kUnavailable, "%s: %s", what, code.message());
}

// The answer as far as it has come.
class Parsing {
 public:
  explicit Parsing(AnswerSink& sink) : sink_(sink) {
    parser_.eager(true);
    parser_.header_limit(kHeaderBytesMax);
    parser_.body_limit(boost::none);
  }

  [[nodiscard]] bool is_done() const { return parser_.is_done(); }
  [[nodiscard]] bool keeps_alive() const { return parser_.get().keep_alive(); }

  Status feed(std::string_view bytes, Instant now) {
    if (!rest_.empty()) bytes = rest_.append(bytes);
    ErrorCode code;
    const std::size_t used = parser_.put(asio::const_buffer(bytes.data(), bytes.size()), code);
    rest_ = std::string(bytes.substr(used));
    if (code && code != http::error::need_more) return broken("malformed answer", code);
    return deliver(now);
  }
  // Ends an answer whose length is that of the connection.
  Status feed_end(Instant now) {
    if (!parser_.is_header_done()) {
      return error(StatusCode::kUnavailable, "the server closed the connection without an answer");
    }
    ErrorCode code;
    parser_.put_eof(code);
    if (code) return error(StatusCode::kUnavailable, "the server cut the answer off");
    return deliver(now);
  }

 private:
  Status deliver(Instant now) {
    if (!parser_.is_header_done()) return absl::OkStatus();
    if (!has_head_) {
      has_head_ = true;
      sink_.on_head(parser_.get().result_int(), view(parser_.get()[http::field::content_type]));
    }
    std::string& body = parser_.get().body();
    if (body.empty()) return absl::OkStatus();
    const Status status = sink_.on_body(body, now);
    body.clear();
    return status;
  }

  AnswerSink& sink_;
  http::response_parser<http::string_body> parser_;
  std::string rest_;
  bool has_head_ = false;
};

class WholeSink : public AnswerSink {
 public:
  void on_head(uint32_t status, std::string_view) override { reply.status = status; }
  Status on_body(std::string_view piece, Instant) override {
    reply.body += piece;
    return absl::OkStatus();
  }
  WholeReply reply;
};

}  // namespace

StatusOr<Endpoints> resolve(const ServerUrl& url) {
  asio::io_context io;
  Tcp::resolver resolver(io);
  ErrorCode code;
  const auto results = resolver.resolve(url.host, std::to_string(url.port), code);
  if (code) return error(StatusCode::kNotFound, "no host '%s': %s", url.host, code.message());
  Endpoints endpoints;
  for (const auto& entry : results) endpoints.push_back(entry.endpoint());
  return endpoints;
}

Gate::Gate(asio::io_context& io, std::size_t count, std::function<void()> on_open)
    : missing_(count),
      on_open_(std::move(on_open)),
      opening_(io, asio::steady_timer::time_point::max()) {}

Task<void> Gate::pass() {
  give_up();
  ErrorCode cancelled;
  if (missing_ > 0) co_await opening_.async_wait(asio::redirect_error(kAwait, cancelled));
}

void Gate::give_up() {
  if (--missing_ > 0) return;
  on_open_();
  opening_.cancel();
}

HttpConnection::HttpConnection(asio::io_context& io, const Endpoints& endpoints)
    : socket_(io.get_executor()), endpoints_(endpoints), buffer_(kReadBytes) {}

void HttpConnection::close() {
  ErrorCode ignored;
  socket_.close(ignored);
}

Task<Status> HttpConnection::connect() {
  ErrorCode code = asio::error::host_not_found;
  for (const Tcp::endpoint& endpoint : endpoints_) {
    close();
    co_await socket_.async_connect(endpoint, asio::redirect_error(kAwait, code));
    if (code) continue;
    socket_.set_option(Tcp::no_delay(true), code);
    co_return absl::OkStatus();
  }
  close();
  co_return broken("connect", code);
}

Task<Status> HttpConnection::exchange(const std::string& request, AnswerSink& sink) {
  const bool was_open = socket_.is_open();
  bool has_answer = false;
  Status status = co_await try_exchange(request, sink, has_answer);
  if (!status.ok() && was_open && !has_answer) {
    close();
    status = co_await try_exchange(request, sink, has_answer);
  }
  if (!status.ok()) close();
  co_return status;
}

Task<Status> HttpConnection::exchange(const std::string& request, AnswerSink& sink, Gate& gate) {
  Status status = co_await connect();
  const std::string_view bytes(request);
  if (status.ok()) status = co_await send(bytes.substr(0, bytes.size() - 1));
  if (status.ok()) {
    co_await gate.pass();
    status = co_await send(bytes.substr(bytes.size() - 1));
  } else {
    gate.give_up();
  }
  bool has_answer = false;
  if (status.ok()) status = co_await read_answer(sink, has_answer);
  if (!status.ok()) close();
  co_return status;
}

Task<Status> HttpConnection::try_exchange(const std::string& request, AnswerSink& sink,
                                          bool& has_answer) {
  if (!socket_.is_open()) {
    const Status status = co_await connect();
    if (!status.ok()) co_return status;
  }
  const Status status = co_await send(request);
  if (!status.ok()) co_return status;
  co_return co_await read_answer(sink, has_answer);
}

Task<Status> HttpConnection::send(std::string_view bytes) {
  ErrorCode code;
  co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()),
                             asio::redirect_error(kAwait, code));
  co_return code ? broken("send the request", code) : absl::OkStatus();
}

Task<Status> HttpConnection::read_answer(AnswerSink& sink, bool& has_answer) {
  ErrorCode code;
  Parsing parsing(sink);
  while (!parsing.is_done()) {
    const std::size_t size =
        co_await socket_.async_read_some(asio::buffer(buffer_), asio::redirect_error(kAwait, code));
    const Instant time = now();
    if (code && code != asio::error::eof) co_return broken("read the answer", code);
    if (size > 0) has_answer = true;
    const Status status =
        code ? parsing.feed_end(time) : parsing.feed(std::string_view(buffer_.data(), size), time);
    if (!status.ok()) co_return status;
    if (code) break;
  }
  if (code || !parsing.keeps_alive()) close();
  co_return absl::OkStatus();
}

std::string request_text(const ServerUrl& url, std::string_view method, std::string_view path,
                         const Headers& headers, std::string_view body) {
  std::string out = absl::StrFormat("%s %s%s HTTP/1.1\r\nHost: %s\r\n", method, url.prefix, path,
                                    url.authority());
  for (const auto& [name, value] : headers) out += absl::StrFormat("%s: %s\r\n", name, value);
  if (!body.empty()) {
    out += absl::StrFormat("Content-Type: application/json\r\nContent-Length: %d\r\n", body.size());
  }
  out += "\r\n";
  out += body;
  return out;
}

StatusOr<WholeReply> ask(const ServerUrl& url, const std::string& request, Deadline deadline) try {
  const auto endpoints = resolve(url);
  if (!endpoints.ok()) return endpoints.status();
  WholeSink sink;
  Status status = error(StatusCode::kDeadlineExceeded, "%s gave no answer in time", url.text());
  asio::io_context io;
  HttpConnection connection(io, *endpoints);
  const auto talk = [&]() -> Task<void> { status = co_await connection.exchange(request, sink); };
  asio::co_spawn(io, talk(), asio::detached);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline.remaining());
  io.run_for(milliseconds);
  if (!status.ok()) return status;
  return sink.reply;
} catch (const std::exception& failure) {
  return error(StatusCode::kInternal, "%s: %s", url.text(), failure.what());
}

}  // namespace trireme::bench
