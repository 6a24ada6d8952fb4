// HttpServer: HTTP/1.1 on one thread: keep-alive, pipelining, server-sent events, TLS if asked for.
//
// It runs inside the owner's io_context: sessions, handler and engine client share that thread and
// need no locks. Several processes may share a port (an inherited listening socket, or
// SO_REUSEPORT). A disconnect is noticed at once, because a session always has a read pending.
//
// Bounds: HttpLimits. Deadlines are kept by one sweep over all sessions, not by a timer each.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "api_server/http/exchange.h"
#include "api_server/http/http_limits.h"
#include "common/status.h"

namespace boost::asio {
class io_context;
}

namespace trireme::api {

struct HttpServerOptions {
  std::string host;    // Empty: every interface.
  uint16_t port = 0;   // 0: the system chooses; HttpServer::port() says which.
  int listen_fd = -1;  // A listening socket of the parent; then host and port are not used.
  bool reuse_port = false;
  std::string ssl_certfile;
  std::string ssl_keyfile;
  HttpLimits limits;
};

struct HttpCounters {
  uint64_t connections_open = 0;
  uint64_t connections_total = 0;
  uint64_t connections_refused = 0;
  uint64_t requests_total = 0;
  uint64_t requests_malformed = 0;  // 400, 413, 431 before a handler saw them
  uint64_t requests_timed_out = 0;  // 408
  uint64_t disconnects = 0;         // With an exchange open.
};

class HttpServer {
 public:
  using Handler = std::function<void(std::shared_ptr<Exchange>)>;

  [[nodiscard]] static StatusOr<std::unique_ptr<HttpServer>> open(boost::asio::io_context& context,
                                                                  const HttpServerOptions& options,
                                                                  Handler handler);
  virtual ~HttpServer() = default;

  // Every answer from now on closes its connection. New connections are still answered.
  virtual void drain() = 0;
  // Stops listening and cuts every connection.
  virtual void close() = 0;
  [[nodiscard]] virtual uint16_t port() const = 0;
  [[nodiscard]] virtual const HttpCounters& counters() const = 0;
  // Nobody waits for an answer, or for the rest of one.
  [[nodiscard]] virtual bool is_quiet() const = 0;
};

}  // namespace trireme::api
