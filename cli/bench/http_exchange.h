// HttpConnection: one connection to the server, one exchange at a time, kept alive between them.
//
// What the answer brings goes to a sink as it arrives, with the time at which it was read. A
// connection that the server closed while it lay idle is opened again once, before anything of an
// answer has come.
// Internal to cli/bench (heavy headers). Threads: that of its io_context.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio.hpp>

#include "cli/bench/server_url.h"
#include "common/clock.h"
#include "common/status.h"

namespace trireme::bench {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using Executor = asio::io_context::executor_type;
template <typename T>
using Task = asio::awaitable<T, Executor>;
using Endpoints = std::vector<Tcp::endpoint>;

// Names are looked up here, by the system, blocking.
[[nodiscard]] StatusOr<Endpoints> resolve(const ServerUrl& url);

class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  virtual void on_head(uint32_t status, std::string_view content_type) = 0;
  // An error ends the exchange and closes the connection.
  virtual Status on_body(std::string_view piece, Instant now) = 0;
};

// Holds exchanges back before the last byte of their requests until all have come so far, or have
// failed. Threads: that of its io_context.
class Gate {
 public:
  // `on_open`: before the first of them goes on.
  Gate(asio::io_context& io, std::size_t count, std::function<void()> on_open);
  // Of each exchange one of the two: it is at the gate, which is done when the gate opens; or it
  // will not come.
  Task<void> pass();
  void give_up();

 private:
  std::size_t missing_;
  std::function<void()> on_open_;
  asio::steady_timer opening_;
};

class HttpConnection {
 public:
  // `endpoints` must outlive it; tried in their order.
  HttpConnection(asio::io_context& io, const Endpoints& endpoints);

  // Sends `request`, a whole HTTP/1.1 request; done when the answer is whole. The error says what
  // broke. Destroying the connection under way is allowed.
  Task<Status> exchange(const std::string& request, AnswerSink& sink);
  // The same on a new connection, through the gate.
  Task<Status> exchange(const std::string& request, AnswerSink& sink, Gate& gate);

  // Whether the server lets it live on.
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }

 private:
  Task<Status> connect();
  // `has_answer`: whether anything of the answer had come.
  Task<Status> try_exchange(const std::string& request, AnswerSink& sink, bool& has_answer);
  Task<Status> send(std::string_view bytes);
  Task<Status> read_answer(AnswerSink& sink, bool& has_answer);
  void close();

  asio::basic_stream_socket<Tcp, Executor> socket_;
  const Endpoints& endpoints_;
  std::vector<char> buffer_;
};

// "Name: value" lines of every request.
using Headers = std::vector<std::pair<std::string, std::string>>;
[[nodiscard]] std::string request_text(const ServerUrl& url, std::string_view method,
                                       std::string_view path, const Headers& headers,
                                       std::string_view body);

struct WholeReply {
  uint32_t status = 0;
  std::string body;
};

// One exchange on a connection of its own, at most until `deadline`. kUnavailable: nobody listens.
[[nodiscard]] StatusOr<WholeReply> ask(const ServerUrl& url, const std::string& request,
                                       Deadline deadline);

}  // namespace trireme::bench
