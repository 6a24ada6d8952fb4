// ApiServer: one front-end process: HTTP, service, engines and the coordinator link on one thread.
//
//   SIGTERM      /ready turns 503, new requests are refused, running ones finish (up to
//                --shutdown-timeout), then run() returns OK. A second signal ends it at once.
//   refused      by the coordinator for good: run() returns the reason.
#pragma once

#include <string>

#include "common/options/serve_options.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::api {

// Adds TRIREME_API_KEY and VLLM_API_KEY, where they are set; below a launcher, takes what it gave
// instead.
void add_api_keys_of_environment(ServeOptions& options);
// TRIREME_SERVER_DEV_MODE, or VLLM_SERVER_DEV_MODE: a number, and not 0. kInvalidArgument: neither.
[[nodiscard]] Status read_dev_mode_of_environment(ServeOptions& options);
// By environment, which no other user can read.
void give_api_keys_to_children(const ServeOptions& options);

// Until stopped. The model is found already: options.model_directory().
[[nodiscard]] Status run_api_server(const ServeOptions& options, StopSignal& stop,
                                    const process::Pulse& pulse = {});

}  // namespace trireme::api
