// PlainStream and TlsStream: the two kinds of byte stream a session runs over, with the same face.
//
//   read(scratch, code)   waits for bytes and returns them, valid until the next read of anyone
//   write_now(bytes)      sends what the socket takes without waiting; the count
//   write_later(out, from, done)  sends or waits for room; done(code, bytes sent of out[from..])
//
// Internal to http/. Threads: the session's.
#pragma once

#include <boost/asio/ssl.hpp>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "api_server/http/asio.h"

namespace trireme::api {

class PlainStream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {
    ErrorCode ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(Tcp::no_delay(true), ignored);
  }

  [[nodiscard]] Executor executor() { return socket_.get_executor(); }
  Task<bool> handshake() { co_return true; }

  Task<std::string_view> read(std::string& scratch, ErrorCode& code) {
    for (;;) {
      co_await socket_.async_wait(Socket::wait_read, asio::redirect_error(kAwait, code));
      if (code) co_return std::string_view{};
      const std::size_t size = socket_.read_some(asio::buffer(scratch), code);
      if (code == asio::error::would_block || code == asio::error::interrupted) continue;
      co_return std::string_view(scratch.data(), size);
    }
  }

  std::size_t write_now(std::string_view bytes, ErrorCode& code) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      sent += socket_.write_some(asio::buffer(bytes.data() + sent, bytes.size() - sent), code);
      if (code) break;
    }
    if (code == asio::error::would_block) code = {};
    return sent;
  }

  template <typename Done>
  void write_later(const std::string&, std::size_t, Done done) {
    socket_.async_wait(Socket::wait_write,
                       [done = std::move(done)](ErrorCode code) mutable { done(code, 0); });
  }

  void shutdown_send() {
    ErrorCode ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  void close() {
    ErrorCode ignored;
    socket_.close(ignored);
  }

 private:
  Socket socket_;
};

class TlsContext {
 public:
  explicit TlsContext(asio::ssl::context context) : context_(std::move(context)) {}
  [[nodiscard]] asio::ssl::context& get() { return context_; }

 private:
  asio::ssl::context context_;
};

class TlsStream {
 public:
  TlsStream(Socket socket, TlsContext& tls)
      : parts_(std::make_shared<Parts>(std::move(socket), tls.get())) {
    ErrorCode ignored;
    parts_->stream.next_layer().set_option(Tcp::no_delay(true), ignored);
  }

  [[nodiscard]] Executor executor() { return parts_->stream.get_executor(); }

  Task<bool> handshake() {
    ErrorCode code;
    co_await parts_->stream.async_handshake(asio::ssl::stream_base::server,
                                            asio::redirect_error(kAwait, code));
    co_return !code;
  }

  Task<std::string_view> read(std::string&, ErrorCode& code) {
    const std::size_t size = co_await parts_->stream.async_read_some(
        asio::buffer(parts_->input), asio::redirect_error(kAwait, code));
    co_return std::string_view(parts_->input.data(), size);
  }

  std::size_t write_now(std::string_view, ErrorCode&) { return 0; }

  // The bytes are copied: `out` may grow, and move, while they are on their way.
  template <typename Done>
  void write_later(const std::string& out, std::size_t from, Done done) {
    parts_->in_flight.assign(out, from);
    asio::async_write(parts_->stream, asio::buffer(parts_->in_flight), std::move(done));
  }

  void shutdown_send() {
    // The session may be gone before the peer has answered.
    parts_->stream.async_shutdown([parts = parts_](ErrorCode) {});
  }
  void close() {
    ErrorCode ignored;
    parts_->stream.next_layer().close(ignored);
  }

 private:
  struct Parts {
    Parts(Socket socket, asio::ssl::context& tls) : stream(std::move(socket), tls) {}
    asio::ssl::stream<Socket> stream;
    std::array<char, 8192> input{};
    std::string in_flight;
  };
  std::shared_ptr<Parts> parts_;
};

}  // namespace trireme::api
