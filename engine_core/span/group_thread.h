// GroupThread: the thread (`eng<rank>/group`) that waits at --master-addr for the other places of
// an engine, and notices when one is gone: the shell of GroupHost.
// Threads: the owner's, beside its own. Lifetime: context and bell outlive it.
#pragma once

#include <memory>
#include <string>

#include "common/status.h"
#include "engine_core/bell.h"
#include "engine_core/span/group_host.h"

namespace trireme::zmq {
class Context;
}

namespace trireme::engine {

class GroupThread {
 public:
  // Listening on return. `bell` is rung when the group is formed or over.
  [[nodiscard]] static StatusOr<std::unique_ptr<GroupThread>> start(const zmq::Context& context,
                                                                    const std::string& endpoint,
                                                                    GroupHostConfig config,
                                                                    uint32_t engine_rank,
                                                                    Bell& bell);
  ~GroupThread();

  [[nodiscard]] bool is_formed() const;
  // Once formed.
  [[nodiscard]] const wire::GroupPlan& plan() const;
  // Not OK once the group is over.
  [[nodiscard]] Status health() const;
  void set_serving();
  // Goes along with what is said anyway, a quarter of a lease later at most.
  void set_late_step(StepId step);
  // Tells the other places that it is over, and why. Idempotent.
  void stop(const Status& why) noexcept;

 private:
  struct Parts;
  explicit GroupThread(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace trireme::engine
