#include "api_server/openai/status_reply.h"

#include "api_server/api_error.h"
#include "api_server/field_error.h"
#include "common/log.h"

namespace trireme::api {
namespace {

constexpr uint32_t kRetryAfterSeconds = 1;

}  // namespace

Status engine_status(const wire::EngineOutput& output) {
  const auto code = static_cast<StatusCode>(output.error_code);
  const std::string why = output.error.empty() ? "the engine failed" : output.error;
  return error(code == StatusCode::kOk ? StatusCode::kInternal : code, "%s", why);
}

HttpReply status_reply(const Status& status) {
  const ApiError& row = api_error(status.code());
  const std::string message = row.is_message_public
                                  ? std::string(status.message())
                                  : std::string("an internal error; the log has the reason");
  if (!row.is_message_public) log::error("request_failed", {{"reason", status.ToString()}});
  HttpReply reply = error_reply(row.http_status, row.type, message, field_of(status));
  if (row.http_status == 429 || row.http_status == 503) {
    reply.retry_after_seconds = kRetryAfterSeconds;
  }
  return reply;
}

void reply_status(Exchange& exchange, Metrics& metrics, const Status& status) {
  const HttpReply reply = status_reply(status);
  ++metrics.replies[reply.status];
  exchange.reply(reply);
}

}  // namespace trireme::api
