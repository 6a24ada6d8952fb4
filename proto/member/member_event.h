// What the control channel tells a member (engine, api-server, node agent).
#pragma once

#include <string>
#include <variant>

#include "common/clock.h"
#include "proto/membership.h"

namespace trireme::member {

// The coordinator took us in. Comes again after every silence or restart of the coordinator; what
// was said before (ready, draining, load) is said again by the link itself.
struct Accepted {
  wire::Init init;
  bool is_new_coordinator = false;  // Its first life, or another one than before.
};

// Final: stop and show the reason. Otherwise the link goes on asking; the reason is for people.
struct Refused {
  std::string reason;
  bool is_final = false;
};

// Nothing heard for a lease. The last view stays valid: serving goes on, the link keeps trying.
struct CoordinatorSilent {
  Duration silence{};
};

// View: a newer one than ever before. Only these epochs are seen by the owner, in growing order.
// StartWave: once per sequence; it is acked by the link.
using Event = std::variant<Accepted, Refused, CoordinatorSilent, wire::View, wire::LoadBoard,
                           wire::StartWave>;

}  // namespace trireme::member
