// ApiServer: one front-end process: HTTP, service, engines and the coordinator link on one thread.
//
//   SIGTERM      /ready turns 503, new requests are refused, running ones finish (up to
//                --shutdown-timeout), then run() returns OK. A second signal ends it at once.
//   refused      by the coordinator for good: run() returns the reason.
#pragma once

#include "common/options/serve_options.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::api {

// Until stopped. `options.model.model` is a directory here. API keys of the environment
// (TRIREME_API_KEY, VLLM_API_KEY) are added to the options' by the caller.
[[nodiscard]] Status run_api_server(const ServeOptions& options, StopSignal& stop);

}  // namespace trireme::api
