#include "api_server/http/http_request.h"

#include "common/json_text.h"

namespace trireme::api {

std::string_view reason_phrase(uint16_t status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

std::string error_body(uint16_t status, std::string_view type, std::string_view message,
                       std::string_view param) {
  std::string body = R"({"error":{"message":)";
  append_json_string(body, message);
  body += R"(,"type":)";
  append_json_string(body, type);
  body += R"(,"param":)";
  if (param.empty()) {
    body += "null";
  } else {
    append_json_string(body, param);
  }
  body += R"(,"code":)";
  body += std::to_string(status);
  body += "}}";
  return body;
}

HttpReply error_reply(uint16_t status, std::string_view type, std::string_view message,
                      std::string_view param) {
  HttpReply reply;
  reply.status = status;
  reply.body = error_body(status, type, message, param);
  return reply;
}

}  // namespace trireme::api
