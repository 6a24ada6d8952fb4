// IoThread: the thread of a rank that owns its sockets: a DEALER to each front end, and the link
// to the coordinator. It decodes what comes and packs what goes, so that the main loop touches no
// socket. (One thread for both directions: a DEALER carries both, and belongs to one thread.)
//
// It starts before the model is loaded, so that the coordinator knows the rank early; front ends
// hear of it with set_ready(). stop() sends what the main loop has published, says goodbye and
// joins; it waits at most kFlushMax for a front end that takes nothing.
// Threads: started and stopped by the main thread; the rest runs on `eng<rank>/io`.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "common/clock.h"
#include "common/options/serve_options.h"
#include "common/status.h"
#include "engine_core/engine_channel.h"
#include "proto/engine_outputs.h"
#include "proto/membership.h"

namespace trireme::engine {

class IoThread {
 public:
  static constexpr Duration kFlushMax = std::chrono::milliseconds(500);

  // Opens the sockets here, so that what can never work is an error of this call.
  [[nodiscard]] static StatusOr<std::unique_ptr<IoThread>> start(const ServeOptions& options,
                                                                 Incarnation incarnation,
                                                                 EngineChannel& channel);
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  ~IoThread();

  // Where other nodes of a lockstep group send records; empty: it is on one node.
  [[nodiscard]] std::string peers_endpoint() const;
  // Once, when the engine can serve.
  void set_ready(const wire::EngineReady& engine, const wire::MemberReady& member);
  // Idempotent. `reason` is what the coordinator and people are told.
  void stop(std::string reason) noexcept;

 private:
  struct Parts;
  explicit IoThread(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
  std::thread thread_;
};

}  // namespace trireme::engine
