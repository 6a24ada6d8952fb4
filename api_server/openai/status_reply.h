// What a Status becomes for a client: an answer by the table of api_error.h. What the client must
// not read goes to the log.
#pragma once

#include "api_server/http/exchange.h"
#include "api_server/openai/metrics.h"
#include "common/status.h"
#include "proto/engine_outputs.h"

namespace trireme::api {

// Retry-After where trying again makes sense.
[[nodiscard]] HttpReply status_reply(const Status& status);
// Answers with it, counted.
void reply_status(Exchange& exchange, Metrics& metrics, const Status& status);
// What an engine says of a request that it ends with kError.
[[nodiscard]] Status engine_status(const wire::EngineOutput& output);

}  // namespace trireme::api
