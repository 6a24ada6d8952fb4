// The log's line about a step that is held up: all that one wants to know first, in one place.
//
//   {"t":…,"process":"engine-core","pid":4711,"rank":0,"event":"step_slow","node":"a","epoch":12,
//    "wave":5,"step":881,"phase":"dispatch","awaits_ranks":"3","awaits_nodes":"b",
//    "worker_pid":0,"seconds":2.2,"text":"…"}
//
// pid and rank are those of who writes it. epoch and wave are 0 where the rank steps alone. Awaited
// are the ranks that have not come, and by the same places their nodes ("?": not known). worker_pid
// is the engine's own worker that is behind all others; 0: none is known. It has lasted `seconds`.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/id.h"
#include "proto/engine_outputs.h"

namespace trireme::engine {

struct StallLine {
  std::string_view event;  // step_slow, lockstep_waits
  WaveId wave;
  wire::Stall stall;
  std::string_view text;  // For people, also what the fields have no room for.
  // The name of a rank's node; empty: not known. Asked for awaited ranks only.
  std::function<std::string(uint32_t)> node_of = [](uint32_t) { return std::string(); };
};

// A warning.
void log_stall(const StallLine& line);

}  // namespace trireme::engine
