#include "engine_core/stall_log.h"

#include "common/host_name.h"
#include "common/log.h"
#include "proto/stall_phase_name.h"

namespace trireme::engine {

void log_stall(const StallLine& line) {
  if (!log::enabled(log::Level::kWarning)) return;
  std::string ranks;
  std::string nodes;
  for (const uint32_t rank : line.stall.awaited_ranks) {
    const std::string_view comma = ranks.empty() ? "" : ",";
    const std::string node = line.node_of(rank);
    ranks.append(comma).append(std::to_string(rank));
    nodes.append(comma).append(node.empty() ? "?" : node);
  }
  log::warning(line.event, {{"node", host_name()},
                            {"epoch", line.stall.epoch.value},
                            {"wave", wave_number(line.wave)},
                            {"step", line.stall.step},
                            {"phase", wire::name_of(line.stall.phase)},
                            {"awaits_ranks", ranks},
                            {"awaits_nodes", nodes},
                            {"worker_pid", line.stall.worker_pid},
                            {"seconds", line.stall.milliseconds / 1000.0},
                            {"text", line.text}});
}

}  // namespace trireme::engine
