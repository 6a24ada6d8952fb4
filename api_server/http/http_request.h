// HttpRequest and HttpReply: what handlers see of HTTP. Plain values, no socket, no library.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme::api {

enum class Method : uint8_t { kGet, kHead, kPost, kOther };

struct HttpRequest {
  Method method = Method::kOther;
  std::string path;   // Without the query.
  std::string query;  // Without the question mark.
  std::string body;
  // The headers that mean something to us.
  std::string authorization;
  std::string request_id;                         // X-Request-Id
  std::optional<std::string> data_parallel_rank;  // X-data-parallel-rank
  bool keep_alive = true;
  bool is_http_1_0 = false;
  bool expects_continue = false;

  friend bool operator==(const HttpRequest&, const HttpRequest&) = default;
};

struct HttpReply {
  uint16_t status = 200;
  std::string_view content_type = "application/json";
  std::string body;
  uint32_t retry_after_seconds = 0;  // 0: no Retry-After.
  std::string_view allow;            // Of a 405.
  bool close = false;
};

[[nodiscard]] std::string_view reason_phrase(uint16_t status);

// The one body of every error: {"error":{"message","type","param","code"}}.
[[nodiscard]] std::string error_body(uint16_t status, std::string_view type,
                                     std::string_view message, std::string_view param = {});
[[nodiscard]] HttpReply error_reply(uint16_t status, std::string_view type,
                                    std::string_view message, std::string_view param = {});

}  // namespace trireme::api
