// CoordinatorLoop: the coordinator's process around CoordinatorState: one ROUTER, one thread.
//
// Listens at control_endpoint(options), by the launcher's socket if it was given one: beyond
// loopback only with a cluster key or --insecure-cluster.
// Bytes that are no message of a member are dropped and counted; the counts are logged at most
// every kReportInterval. A Hello that we cannot decode because its sender is newer is refused with
// both versions. What a slow member does not take (its queue is full) is dropped: the protocol
// repeats. Threads: one owner. State is soft: after a restart the members say Hello again.
#pragma once

#include <memory>
#include <string>

#include "common/clock.h"
#include "common/options/serve_options.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::zmq {
class Context;
}

namespace trireme::coordinator {

class CoordinatorLoop {
 public:
  static constexpr Duration kReportInterval = std::chrono::seconds(10);

  [[nodiscard]] static StatusOr<std::unique_ptr<CoordinatorLoop>> create(
      zmq::Context& context, const ServeOptions& options);
  ~CoordinatorLoop();

  // Until the stop signal, or an error that cannot be survived.
  [[nodiscard]] Status run(StopSignal& stop, const process::Pulse& pulse = {});
  // One turn: waits at most until `deadline`, takes in what came, sends what is due.
  void turn(Deadline deadline);
  [[nodiscard]] const std::string& endpoint() const;
  // Frames that were none of ours, or from nobody.
  [[nodiscard]] uint64_t garbage_total() const;

 private:
  struct Parts;
  explicit CoordinatorLoop(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace trireme::coordinator
