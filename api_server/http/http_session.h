// HttpSession: one connection. A coroutine reads and feeds the parser; answers are written from
// wherever they come, at once if the socket takes them.
//
//   reading:   bytes -> parser -> (one exchange at a time) -> handler. While an exchange is open
//              the read goes on: it notices the disconnect, and takes in the start of a pipelined
//              request up to pipelined_bytes_max. What a client sends beyond that is dropped, and
//              the connection closed after the open answer.
//   writing:   what is written in one turn of the loop goes out together at its end, by one send.
//              What the socket does not take waits for it, and grows until unsent_bytes_max.
//
// Internal to http/. Threads: the server's.
#pragma once

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "api_server/http/asio.h"
#include "api_server/http/http_server.h"
#include "api_server/http/request_parser.h"
#include "common/clock.h"

namespace trireme::api {

class SessionBase;

// What the sessions of a server share.
struct SessionHost {
  HttpLimits limits;
  HttpCounters counters;
  HttpServer::Handler handler;
  std::unordered_set<SessionBase*> sessions;
  std::size_t exchanges_open = 0;
  bool draining = false;
  // Bytes on their way from a socket to a session: one buffer for all, since a session copies or
  // consumes them before the next one reads.
  std::string scratch;
  // Written to in this turn; a posted flush_unsent() follows.
  std::vector<std::shared_ptr<SessionBase>> unsent;

  void flush_unsent();
};

class SessionBase : public Connection {
 public:
  virtual ~SessionBase() = default;
  virtual void flush() = 0;
  virtual void sweep(Instant now) = 0;
  virtual void cut() = 0;
  [[nodiscard]] virtual bool has_unsent() const = 0;
};

// A plain socket reads and writes without a buffer of its own; TLS goes through its stream.
void start_plain_session(Socket socket, std::shared_ptr<SessionHost> host);
class TlsContext;
[[nodiscard]] StatusOr<std::shared_ptr<TlsContext>> load_tls(const std::string& certfile,
                                                             const std::string& keyfile);
void start_tls_session(Socket socket, TlsContext& tls, std::shared_ptr<SessionHost> host);

}  // namespace trireme::api
