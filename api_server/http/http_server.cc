#include "api_server/http/http_server.h"

#include <openssl/ssl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "api_server/http/http_session.h"
#include "api_server/http/session_stream.h"
#include "common/log.h"

namespace trireme::api {
namespace {

constexpr std::size_t kScratchBytes = 64 * 1024;
constexpr std::chrono::milliseconds kAcceptPause(20);  // After EMFILE and the like.

class Server final : public HttpServer {
 public:
  Server(asio::io_context& context, Acceptor acceptor, std::shared_ptr<TlsContext> tls,
         const HttpLimits& limits, Handler handler)
      : acceptor_(std::move(acceptor)),
        sweep_timer_(context.get_executor()),
        pause_timer_(context.get_executor()),
        tls_(std::move(tls)),
        host_(std::make_shared<SessionHost>()) {
    host_->limits = limits;
    host_->handler = std::move(handler);
    host_->scratch.resize(kScratchBytes);
    accept();
    sweep();
  }
  ~Server() override { close(); }

  void drain() override { host_->draining = true; }

  void close() override {
    *open_ = false;
    ErrorCode ignored;
    acceptor_.close(ignored);
    sweep_timer_.cancel();
    pause_timer_.cancel();
    for (SessionBase* session : std::vector(host_->sessions.begin(), host_->sessions.end())) {
      session->cut();
    }
    host_->unsent.clear();
  }

  [[nodiscard]] uint16_t port() const override {
    ErrorCode ignored;
    return acceptor_.local_endpoint(ignored).port();
  }
  [[nodiscard]] const HttpCounters& counters() const override { return host_->counters; }
  [[nodiscard]] bool is_quiet() const override {
    if (host_->exchanges_open > 0) return false;
    return std::none_of(host_->sessions.begin(), host_->sessions.end(),
                        [](const SessionBase* session) { return session->has_unsent(); });
  }

 private:
  void accept() {
    acceptor_.async_accept([this, open = open_](ErrorCode code, Socket socket) {
      if (!*open || code == asio::error::operation_aborted) return;
      if (code) {
        log::warning("http_accept_failed", {{"reason", code.message()}});
        pause_timer_.expires_after(kAcceptPause);
        pause_timer_.async_wait([this, open](ErrorCode stopped) {
          if (*open && !stopped) accept();
        });
        return;
      }
      take(std::move(socket));
      accept();
    });
  }

  void take(Socket socket) {
    if (host_->sessions.size() >= host_->limits.connections_max) {
      ++host_->counters.connections_refused;
      refuse(std::move(socket));
    } else if (tls_) {
      start_tls_session(std::move(socket), *tls_, host_);
    } else {
      start_plain_session(std::move(socket), host_);
    }
  }

  void refuse(Socket socket) {
    ErrorCode ignored;
    socket.non_blocking(true, ignored);
    static const std::string kFull = [] {
      const std::string body =
          error_body(503, "service_unavailable_error", "too many connections, try again later");
      return "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
             "Retry-After: 1\r\nConnection: close\r\nContent-Length: " +
             std::to_string(body.size()) + "\r\n\r\n" + body;
    }();
    if (!tls_) socket.write_some(asio::buffer(kFull), ignored);
    socket.shutdown(Socket::shutdown_send, ignored);
  }

  void sweep() {
    sweep_timer_.expires_after(host_->limits.sweep_interval);
    sweep_timer_.async_wait([this, open = open_](ErrorCode code) {
      if (!*open || code) return;
      const Instant time = now();
      for (SessionBase* session : std::vector(host_->sessions.begin(), host_->sessions.end())) {
        if (host_->sessions.contains(session)) session->sweep(time);
      }
      sweep();
    });
  }

  // False from close() on. A handler that was due already when it was cancelled still runs, without
  // an error, perhaps after this object is gone: it looks here first.
  const std::shared_ptr<bool> open_ = std::make_shared<bool>(true);
  Acceptor acceptor_;
  Timer sweep_timer_;
  Timer pause_timer_;
  std::shared_ptr<TlsContext> tls_;
  std::shared_ptr<SessionHost> host_;
};

StatusOr<Acceptor> bind(asio::io_context& context, const HttpServerOptions& options) {
  Acceptor acceptor(context.get_executor());
  ErrorCode code;
  const std::string host = options.host.empty() ? "0.0.0.0" : options.host;
  Tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(host, std::to_string(options.port), Tcp::resolver::passive, code);
  if (code) return error(StatusCode::kInvalidArgument, "--host %s: %s", host, code.message());
  const Tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), code);
  if (!code) acceptor.set_option(asio::socket_base::reuse_address(true), code);
  if (!code && options.reuse_port) {
    using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
    acceptor.set_option(ReusePort(true), code);
  }
  if (!code) acceptor.bind(endpoint, code);
  if (!code) acceptor.listen(SOMAXCONN, code);
  if (code) {
    return error(StatusCode::kUnavailable, "--port %u on %s: %s", options.port, host,
                 code.message());
  }
  return acceptor;
}

StatusOr<Acceptor> inherit(asio::io_context& context, int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return error(StatusCode::kInvalidArgument, "--internal-listen-fd %d is not a socket", fd);
  }
  Acceptor acceptor(context.get_executor());
  ErrorCode code;
  acceptor.assign(address.ss_family == AF_INET6 ? Tcp::v6() : Tcp::v4(), fd, code);
  if (!code) acceptor.listen(SOMAXCONN, code);
  if (code) {
    return error(StatusCode::kInvalidArgument, "--internal-listen-fd %d: %s", fd, code.message());
  }
  return acceptor;
}

// A connection is a file; the soft limit of 1,024 is a default of another age.
void raise_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// OpenSSL's own words for a file that cannot be opened say nothing.
Status bad_file(std::string_view flag, const std::string& file, const ErrorCode& code) {
  const bool is_readable = ::access(file.c_str(), R_OK) == 0;
  return error(StatusCode::kInvalidArgument, "%s %s: %s", flag, file,
               is_readable ? code.message() : std::strerror(errno));
}

}  // namespace

StatusOr<std::shared_ptr<TlsContext>> load_tls(const std::string& certfile,
                                               const std::string& keyfile) {
  asio::ssl::context tls(asio::ssl::context::tls_server);
  ErrorCode code;
  tls.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                      asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1,
                  code);
  // Idle connections give their 34 KB of TLS buffers back.
  SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);
  tls.use_certificate_chain_file(certfile, code);
  if (code) return bad_file("--ssl-certfile", certfile, code);
  const std::string& key = keyfile.empty() ? certfile : keyfile;
  tls.use_private_key_file(key, asio::ssl::context::pem, code);
  if (code) return bad_file("--ssl-keyfile", key, code);
  return std::make_shared<TlsContext>(std::move(tls));
}

StatusOr<std::unique_ptr<HttpServer>> HttpServer::open(asio::io_context& context,
                                                       const HttpServerOptions& options,
                                                       Handler handler) {
  raise_open_files();
  std::shared_ptr<TlsContext> tls;
  if (!options.ssl_certfile.empty()) {
    TRIREME_ASSIGN_OR_RETURN(tls, load_tls(options.ssl_certfile, options.ssl_keyfile));
  } else if (!options.ssl_keyfile.empty()) {
    return error(StatusCode::kInvalidArgument, "--ssl-keyfile needs --ssl-certfile");
  }
  TRIREME_ASSIGN_OR_RETURN(Acceptor acceptor, options.listen_fd >= 0
                                                  ? inherit(context, options.listen_fd)
                                                  : bind(context, options));
  return std::unique_ptr<HttpServer>(std::make_unique<Server>(
      context, std::move(acceptor), std::move(tls), options.limits, std::move(handler)));
}

}  // namespace trireme::api
