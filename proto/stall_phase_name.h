// StallPhase by its name, as people read it: in the log, GET /cluster and `trireme top`.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

#include "proto/engine_outputs.h"

namespace trireme::wire {

// "unknown" for one that this version does not know.
[[nodiscard]] constexpr std::string_view name_of(StallPhase phase) {
  constexpr std::string_view kNames[] = {"unknown", "queue",      "exchange",    "dispatch",
                                         "expert",  "combine",    "sample",      "attention",
                                         "mlp",     "all-reduce", "logits",      "stage",
                                         "start",   "result",     "load experts"};
  const auto index = static_cast<std::size_t>(phase);
  return index < std::size(kNames) ? kNames[index] : kNames[0];
}

}  // namespace trireme::wire
