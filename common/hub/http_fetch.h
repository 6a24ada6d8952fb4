// HttpFetch: a blocking HTTP(S) client for downloads: follows redirects, asks for byte ranges,
// checks certificates against the system's store. One request at a time; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::hub {

struct HttpResponse {
  uint16_t status = 0;
  std::map<std::string, std::string>
      headers;       // Names in lower case; of the last hop, and those that
                     // the hub sends only with its redirects (x-linked-*, x-repo-*).
  std::string body;  // Empty where a sink took it.
};

struct HttpRequest {
  std::string url;
  bool head_only = false;
  uint64_t range_begin = 0;  // 0: the whole file.
  std::string bearer_token;  // Sent to the first host only, never to where it redirects.
};

// Gets the body in pieces; an error ends the transfer.
using BodySink = std::function<Status(std::string_view piece)>;

// kUnavailable: no connection, or it broke (what came before has reached the sink). A status code
// of the server is not an error here.
[[nodiscard]] StatusOr<HttpResponse> http_fetch(const HttpRequest& request,
                                                const BodySink& sink = nullptr);

}  // namespace trireme::hub
