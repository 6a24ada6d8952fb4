// The listening sockets of a place's workers, made by their parent: their ports can be told to the
// others before the workers run, and are free again when nobody holds them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/net_address.h"
#include "common/status.h"
#include "common/unique_fd.h"
#include "engine_core/span/worker_span.h"
#include "proto/worker_group.h"

namespace trireme::engine {

struct Listener {
  wire::RankListener told;
  UniqueFd fd;
};

// For every edge from another place to this one. Listening at `address`, on free ports.
[[nodiscard]] StatusOr<std::vector<Listener>> make_listeners(const WorkerSpan& span, uint32_t place,
                                                             const std::string& address);
[[nodiscard]] std::vector<wire::RankListener> told_of(const std::vector<Listener>& listeners);

}  // namespace trireme::engine
