#include "api_server/http/http_session.h"

#include <array>
#include <charconv>

#include "api_server/http/session_stream.h"
#include "common/random.h"

namespace trireme::api {
namespace {

constexpr std::size_t kRequestIdBytesMax = 128;
// More than this does not wait for the end of the turn.
constexpr std::size_t kHeldBytesMax = 64 * 1024;

bool is_request_id(std::string_view text) {
  if (text.empty() || text.size() > kRequestIdBytesMax) return false;
  for (const char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

std::string draw_request_id() {
  static Random random(entropy64());
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(random.next()),
                static_cast<unsigned long long>(random.next()));
  return std::string(text.data(), 32);
}

void append_number(std::string& out, uint64_t value, int base = 10) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, base);
  out.append(digits.data(), end.ptr);
}

// One session over one kind of stream (session_stream.h: PlainStream or TlsStream).
template <typename Stream>
class HttpSession final : public SessionBase,
                          public std::enable_shared_from_this<HttpSession<Stream>> {
 public:
  HttpSession(Stream stream, std::shared_ptr<SessionHost> host)
      : stream_(std::move(stream)),
        owner_(std::move(host)),
        host_(*owner_),
        parser_(host_.limits),
        deadline_(now() + host_.limits.header_timeout) {
    host_.sessions.insert(this);
    ++host_.counters.connections_open;
    ++host_.counters.connections_total;
  }
  ~HttpSession() override {
    host_.sessions.erase(this);
    --host_.counters.connections_open;
  }

  Task<void> run();

  void write_reply(const HttpReply& reply) override;
  void write_event_head() override;
  void write_events(std::string_view bytes) override;
  void finish_exchange() override;
  void flush() override;
  void sweep(Instant now) override;
  void cut() override;
  [[nodiscard]] bool has_unsent() const override { return !out_.empty() && !closed_; }

 private:
  void advance();
  void give_up_pipeline();
  void begin_exchange(HttpRequest request);
  void end_exchange();
  void refuse(const HttpReply& reply);
  void append_head(const HttpReply& reply);
  void flush_soon();
  void flush_done(ErrorCode code, std::size_t sent);
  void close_when_sent();

  Stream stream_;
  const std::shared_ptr<SessionHost> owner_;
  SessionHost& host_;
  RequestParser parser_;
  std::string in_;   // Read and not yet parsed.
  std::string out_;  // To be sent, from out_sent_ on.
  std::size_t out_sent_ = 0;
  std::shared_ptr<Exchange> exchange_;
  std::string request_id_;  // Of the open exchange.
  Instant deadline_;        // Of the header, the body, or the idle connection.
  Instant write_deadline_ = Instant::max();
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool chunked_ = false;
  bool events_ = false;
  bool listed_ = false;  // In host_.unsent.
  bool writing_ = false;
  bool closing_ = false;  // Nothing more is read; closed when everything is sent.
  bool closed_ = false;
  bool dropping_ = false;  // The client sent too much ahead: closed after the open answer.
  bool advancing_ = false;
  bool request_begun_ = false;
};

template <typename Stream>
Task<void> HttpSession<Stream>::run() {
  const auto self = this->shared_from_this();
  if (!co_await stream_.handshake()) {
    cut();
    co_return;
  }
  while (!closed_) {
    ErrorCode code;
    const std::string_view bytes = co_await stream_.read(host_.scratch, code);
    if (closed_) break;
    if (code) {
      cut();
      break;
    }
    // Read on and drop, so that the last answer is not reset away.
    if (closing_ || dropping_) continue;
    in_.append(bytes);
    advance();
    if (exchange_ && in_.size() > host_.limits.pipelined_bytes_max) give_up_pipeline();
  }
}

// To wait instead would leave the client's disconnect unread behind its bytes.
template <typename Stream>
void HttpSession<Stream>::give_up_pipeline() {
  in_.clear();
  keep_alive_ = false;
  dropping_ = true;
}

// Parses what was read, as far as the open exchange allows.
template <typename Stream>
void HttpSession<Stream>::advance() {
  if (advancing_) return;
  advancing_ = true;
  while (!exchange_ && !closing_ && !closed_ && !in_.empty()) {
    if (!request_begun_) {
      request_begun_ = true;
      deadline_ = now() + host_.limits.header_timeout;
    }
    const bool was_header = parser_.progress() == RequestParser::Progress::kHeader;
    const std::size_t consumed = parser_.feed(in_);
    in_.erase(0, consumed);
    const auto progress = parser_.progress();
    if (progress == RequestParser::Progress::kFailed) {
      ++host_.counters.requests_malformed;
      refuse(parser_.failure());
      break;
    }
    if (was_header && progress == RequestParser::Progress::kBody) {
      deadline_ = now() + host_.limits.body_timeout;
    }
    if (parser_.take_continue()) {
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      flush();
    }
    if (progress == RequestParser::Progress::kComplete) {
      begin_exchange(parser_.take());
    } else if (consumed == 0) {
      break;
    }
  }
  advancing_ = false;
}

template <typename Stream>
void HttpSession<Stream>::begin_exchange(HttpRequest request) {
  ++host_.counters.requests_total;
  ++host_.exchanges_open;
  request_begun_ = false;
  deadline_ = Instant::max();
  keep_alive_ = request.keep_alive;
  head_only_ = request.method == Method::kHead;
  chunked_ = !request.is_http_1_0;
  events_ = false;
  request_id_ = is_request_id(request.request_id) ? request.request_id : draw_request_id();
  exchange_ = std::make_shared<Exchange>(*this, std::move(request), request_id_);
  const auto exchange = exchange_;  // The handler may end it before it returns.
  host_.handler(exchange);
}

template <typename Stream>
void HttpSession<Stream>::append_head(const HttpReply& reply) {
  if (host_.draining || reply.close) keep_alive_ = false;
  out_ += "HTTP/1.1 ";
  append_number(out_, reply.status);
  out_ += ' ';
  out_ += reason_phrase(reply.status);
  out_ += "\r\nContent-Type: ";
  out_ += reply.content_type;
  if (!request_id_.empty()) {
    out_ += "\r\nX-Request-Id: ";
    out_ += request_id_;
  }
  if (reply.retry_after_seconds > 0) {
    out_ += "\r\nRetry-After: ";
    append_number(out_, reply.retry_after_seconds);
  }
  if (!reply.allow.empty()) {
    out_ += "\r\nAllow: ";
    out_ += reply.allow;
  }
  if (reply.status == 401) out_ += "\r\nWWW-Authenticate: Bearer";
  if (!keep_alive_) {
    out_ += "\r\nConnection: close";
  } else if (!chunked_) {
    out_ += "\r\nConnection: keep-alive";
  }
}

template <typename Stream>
void HttpSession<Stream>::write_reply(const HttpReply& reply) {
  append_head(reply);
  out_ += "\r\nContent-Length: ";
  append_number(out_, reply.body.size());
  out_ += "\r\n\r\n";
  if (!head_only_) out_ += reply.body;
}

template <typename Stream>
void HttpSession<Stream>::write_event_head() {
  events_ = true;
  if (!chunked_) keep_alive_ = false;  // The end of the connection is the end of the body.
  append_head({.status = 200, .content_type = "text/event-stream; charset=utf-8"});
  out_ += "\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no";
  if (chunked_) out_ += "\r\nTransfer-Encoding: chunked";
  out_ += "\r\n\r\n";
}

template <typename Stream>
void HttpSession<Stream>::write_events(std::string_view bytes) {
  if (bytes.empty()) return;
  if (chunked_) {
    append_number(out_, bytes.size(), 16);
    out_ += "\r\n";
  }
  out_ += bytes;
  if (chunked_) out_ += "\r\n";
  flush_soon();
}

template <typename Stream>
void HttpSession<Stream>::finish_exchange() {
  if (events_ && chunked_) out_ += "0\r\n\r\n";
  end_exchange();
  request_id_.clear();
  // A stream that began before the drain said nothing of it in its head.
  if (!keep_alive_ || host_.draining) {
    close_when_sent();
    return;
  }
  deadline_ = now() + host_.limits.idle_timeout;
  flush_soon();
  if (closed_) return;
  // A pipelined request starts from the loop, so that a thousand of them are not a thousand frames.
  if (!in_.empty() && !advancing_) {
    asio::post(stream_.executor(), [self = this->shared_from_this()] { self->advance(); });
  }
}

template <typename Stream>
void HttpSession<Stream>::end_exchange() {
  if (exchange_) --host_.exchanges_open;
  exchange_.reset();
}

template <typename Stream>
void HttpSession<Stream>::refuse(const HttpReply& reply) {
  request_id_.clear();
  write_reply(reply);
  close_when_sent();
}

// An answer before the end of the request must not be lost to a reset: the rest of what the
// client sends is read and dropped until it closes, or until the idle deadline.
template <typename Stream>
void HttpSession<Stream>::close_when_sent() {
  closing_ = true;
  in_.clear();
  deadline_ = now() + host_.limits.header_timeout;
  flush();
  if (!closed_ && !writing_) stream_.shutdown_send();
}

template <typename Stream>
void HttpSession<Stream>::flush_soon() {
  if (listed_ || writing_ || closed_) return;
  if (out_.size() > kHeldBytesMax) {
    flush();
    return;
  }
  listed_ = true;
  host_.unsent.push_back(this->shared_from_this());
  if (host_.unsent.size() > 1) return;
  asio::post(stream_.executor(), [host = owner_] { host->flush_unsent(); });
}

template <typename Stream>
void HttpSession<Stream>::flush() {
  listed_ = false;
  if (writing_ || closed_) return;
  ErrorCode code;
  out_sent_ += stream_.write_now(std::string_view(out_).substr(out_sent_), code);
  if (code) {
    cut();
    return;
  }
  if (out_sent_ == out_.size()) {
    out_.clear();
    out_sent_ = 0;
    return;
  }
  if (out_.size() - out_sent_ > host_.limits.unsent_bytes_max) {
    cut();
    return;
  }
  writing_ = true;
  write_deadline_ = now() + host_.limits.write_timeout;
  stream_.write_later(out_, out_sent_,
                      [self = this->shared_from_this()](ErrorCode failed, std::size_t sent) {
                        self->flush_done(failed, sent);
                      });
}

template <typename Stream>
void HttpSession<Stream>::flush_done(ErrorCode code, std::size_t sent) {
  writing_ = false;
  write_deadline_ = Instant::max();
  if (closed_) return;
  if (code) {
    cut();
    return;
  }
  out_sent_ += sent;
  flush();
  if (closing_ && !writing_ && !closed_) stream_.shutdown_send();
}

template <typename Stream>
void HttpSession<Stream>::sweep(Instant now) {
  if (write_deadline_ <= now) {
    cut();
    return;
  }
  if (out_.size() - out_sent_ > host_.limits.unsent_bytes_max) {
    cut();
    return;
  }
  if (deadline_ > now) return;
  if (closing_ || !request_begun_) {
    cut();
    return;
  }
  ++host_.counters.requests_timed_out;
  HttpReply reply = error_reply(408, "timeout_error", "the request did not arrive in time");
  reply.close = true;
  refuse(reply);
}

template <typename Stream>
void HttpSession<Stream>::cut() {
  if (closed_) return;
  closed_ = true;
  stream_.close();
  if (exchange_) {
    ++host_.counters.disconnects;
    const auto exchange = exchange_;
    end_exchange();
    exchange->disconnect();
  }
}

template <typename Stream>
void start(Stream stream, std::shared_ptr<SessionHost> host) {
  const Executor executor = stream.executor();
  auto session = std::make_shared<HttpSession<Stream>>(std::move(stream), std::move(host));
  asio::co_spawn(
      executor, [session] { return session->run(); }, asio::detached);
}

}  // namespace

void SessionHost::flush_unsent() {
  // A flush may cut its session, whose request then ends; nothing of that writes.
  for (const auto& session : unsent) session->flush();
  unsent.clear();
}

void start_plain_session(Socket socket, std::shared_ptr<SessionHost> host) {
  start(PlainStream(std::move(socket)), std::move(host));
}

void start_tls_session(Socket socket, TlsContext& tls, std::shared_ptr<SessionHost> host) {
  start(TlsStream(std::move(socket), tls), std::move(host));
}

}  // namespace trireme::api
