#include "common/hub/http_fetch.h"

// Boost 1.74 needs <utility> before its coroutine headers.
#include <utility>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <optional>

namespace trireme::hub {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;

constexpr int kRedirectsMax = 5;
constexpr std::chrono::milliseconds kSilenceMax{30'000};
constexpr std::size_t kPieceBytes = 1 << 16;
constexpr uint64_t kBufferedBodyMax = 64 << 20;

// A blocking socket whose reads give up after kSilenceMax: a server that stalls must not hold us
// for ever.
class TimedSocket {
 public:
  using lowest_layer_type = asio::ip::tcp::socket::lowest_layer_type;
  using executor_type = asio::ip::tcp::socket::executor_type;

  explicit TimedSocket(asio::io_context& context) : socket_(context) {}
  asio::ip::tcp::socket& socket() { return socket_; }
  lowest_layer_type& lowest_layer() { return socket_.lowest_layer(); }
  executor_type get_executor() { return socket_.get_executor(); }

  template <typename Buffers>
  std::size_t read_some(const Buffers& buffers, beast::error_code& code) {
    pollfd entry{socket_.native_handle(), POLLIN, 0};
    if (poll(&entry, 1, static_cast<int>(kSilenceMax.count())) == 0) {
      code = asio::error::timed_out;
      return 0;
    }
    return socket_.read_some(buffers, code);
  }
  template <typename Buffers>
  std::size_t read_some(const Buffers& buffers) {
    beast::error_code code;
    const std::size_t count = read_some(buffers, code);
    if (code) throw beast::system_error(code);
    return count;
  }
  template <typename Buffers>
  std::size_t write_some(const Buffers& buffers, beast::error_code& code) {
    return socket_.write_some(buffers, code);
  }
  template <typename Buffers>
  std::size_t write_some(const Buffers& buffers) {
    return socket_.write_some(buffers);
  }

 private:
  asio::ip::tcp::socket socket_;
};

struct Url {
  bool is_tls = false;
  std::string host;
  std::string port;
  std::string target;
};

StatusOr<Url> parse_url(std::string_view text) {
  Url url;
  if (text.starts_with("https://")) {
    url.is_tls = true;
  } else if (!text.starts_with("http://")) {
    return error(StatusCode::kInvalidArgument, "'%s' is not an http:// or https:// address", text);
  }
  std::string_view rest = text.substr(text.find("//") + 2);
  const auto slash = rest.find('/');
  url.target = slash == rest.npos ? "/" : std::string(rest.substr(slash));
  std::string_view authority = rest.substr(0, slash);
  const auto colon = authority.rfind(':');
  url.port = url.is_tls ? "443" : "80";
  if (colon != authority.npos && authority.find(']', colon) == authority.npos) {
    url.port = authority.substr(colon + 1);
    authority = authority.substr(0, colon);
  }
  url.host = authority;
  if (url.host.empty()) return error(StatusCode::kInvalidArgument, "'%s' names no host", text);
  return url;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

http::request<http::empty_body> make_request(const HttpRequest& wanted, const Url& url,
                                             bool is_first_hop) {
  http::request<http::empty_body> request(wanted.head_only ? http::verb::head : http::verb::get,
                                          url.target, 11);
  request.set(http::field::host, url.host);
  request.set(http::field::user_agent, "trireme");
  request.set(http::field::accept_encoding, "identity");
  if (wanted.range_begin > 0) {
    request.set(http::field::range, absl::StrFormat("bytes=%d-", wanted.range_begin));
  }
  if (!wanted.bearer_token.empty() && is_first_hop) {
    request.set(http::field::authorization, "Bearer " + wanted.bearer_token);
  }
  return request;
}

template <typename Stream>
Status read_body(Stream& stream, beast::flat_buffer& buffer,
                 http::response_parser<http::buffer_body>& parser, const BodySink& sink,
                 HttpResponse& response) {
  std::array<char, kPieceBytes> piece;
  const bool goes_to_sink = sink != nullptr && (response.status == 200 || response.status == 206);
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    beast::error_code code;
    http::read(stream, buffer, parser, code);
    if (code && code != http::error::need_buffer) {
      return error(StatusCode::kUnavailable, "connection broke: %s", code.message());
    }
    const std::string_view got(piece.data(), piece.size() - parser.get().body().size);
    if (goes_to_sink) {
      TRIREME_RETURN_IF_ERROR(sink(got));
    } else {
      response.body.append(got);
      if (response.body.size() > kBufferedBodyMax) {
        return error(StatusCode::kResourceExhausted, "answer larger than %d bytes",
                     kBufferedBodyMax);
      }
    }
  }
  return absl::OkStatus();
}

template <typename Stream>
Status exchange(Stream& stream, const HttpRequest& wanted, const Url& url, bool is_first_hop,
                const BodySink& sink, HttpResponse& response) {
  const auto request = make_request(wanted, url, is_first_hop);
  http::write(stream, request);
  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  // Not boost::none: Boost 1.74 then refuses every body.
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  parser.skip(wanted.head_only);
  http::read_header(stream, buffer, parser);
  response.status = static_cast<uint16_t>(parser.get().result_int());
  for (const auto& field : parser.get()) {
    const auto view = field.name_string();
    const auto value = field.value();
    response.headers[lower({view.data(), view.size()})] = std::string(value.data(), value.size());
  }
  return read_body(stream, buffer, parser, sink, response);
}

Status exchange_with_host(const HttpRequest& wanted, const Url& url, bool is_first_hop,
                          const BodySink& sink, HttpResponse& response) {
  asio::io_context context;
  asio::ip::tcp::resolver resolver(context);
  const auto addresses = resolver.resolve(url.host, url.port);
  if (!url.is_tls) {
    TimedSocket socket(context);
    asio::connect(socket.socket(), addresses);
    return exchange(socket, wanted, url, is_first_hop, sink, response);
  }
  ssl::context tls(ssl::context::tls_client);
  tls.set_default_verify_paths();
  tls.set_verify_mode(ssl::verify_peer);
  ssl::stream<TimedSocket> stream(context, tls);
  stream.set_verify_callback(ssl::host_name_verification(url.host));
  SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str());
  asio::connect(stream.next_layer().socket(), addresses);
  stream.handshake(ssl::stream_base::client);
  return exchange(stream, wanted, url, is_first_hop, sink, response);
}

std::string absolute(const std::string& location, const Url& from) {
  if (!location.starts_with('/')) return location;
  return (from.is_tls ? "https://" : "http://") + from.host + ":" + from.port + location;
}

bool is_redirect(uint16_t status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// The hub names a file's size and hash with the redirect, not at the place it leads to.
void keep_hub_headers(const HttpResponse& hop, std::map<std::string, std::string>& kept) {
  for (const auto& [name, value] : hop.headers) {
    if (name.starts_with("x-linked-") || name.starts_with("x-repo-")) kept[name] = value;
  }
}

}  // namespace

StatusOr<HttpResponse> http_fetch(const HttpRequest& request, const BodySink& sink) try {
  std::string target = request.url;
  std::map<std::string, std::string> kept;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    TRIREME_ASSIGN_OR_RETURN(const Url url, parse_url(target));
    HttpResponse response;
    TRIREME_RETURN_IF_ERROR(annotate(exchange_with_host(request, url, hop == 0, sink, response),
                                     url.host + ":" + url.port));
    if (!is_redirect(response.status) || !response.headers.contains("location")) {
      response.headers.merge(kept);
      return response;
    }
    keep_hub_headers(response, kept);
    target = absolute(response.headers["location"], url);
  }
  return error(StatusCode::kUnavailable, "%s: more than %d redirects", request.url, kRedirectsMax);
} catch (const std::exception& failure) {
  return error(StatusCode::kUnavailable, "%s: %s", request.url, failure.what());
}

}  // namespace trireme::hub
