// The answer of GET /cluster: where every engine stands, who holds up whom, and who else is there,
// as one front end knows it; docs/top.md says what the fields are. Pure.
//
// Nothing is asked of anybody for it: the view and the load board come from the coordinator, the
// rest from the engines' own messages. Size and cost grow with the ranks: half a KB each.
// Threads: the http thread's, as EngineClient.
#pragma once

#include <string>
#include <string_view>

#include "api_server/engine_client/engine_client.h"
#include "common/clock.h"

namespace trireme::api {

[[nodiscard]] std::string render_cluster(const EngineClient& client, std::string_view version,
                                         Instant now);

}  // namespace trireme::api
