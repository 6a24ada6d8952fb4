// How a simulated rank's engine::Lockstep is driven, as the product's main loop drives it.
#pragma once

#include "proto/messages.h"

namespace trireme::sim {

// As far as it goes by itself. agree() and compute() are false while they wait.
template <typename Lockstep, typename Post, typename Agree, typename Compute>
void step_on(const Lockstep& lockstep, const Post& post, const Agree& agree,
             const Compute& compute) {
  using Phase = typename Lockstep::Phase;
  for (bool goes_on = true; goes_on;) {
    switch (lockstep.phase()) {
      case Phase::kAsleep:
        goes_on = false;
        break;
      case Phase::kReady:
        post();
        break;
      case Phase::kAgreeing:
        goes_on = agree();
        break;
      case Phase::kRunning:
        goes_on = compute();
        break;
    }
  }
}

// What the coordinator is told.
template <typename Lockstep>
[[nodiscard]] wire::WaveEventKind standing_of(const Lockstep& lockstep, bool has_work) {
  if (lockstep.phase() != Lockstep::Phase::kAsleep) return wire::WaveEventKind::kRunning;
  return has_work ? wire::WaveEventKind::kStart : wire::WaveEventKind::kComplete;
}

}  // namespace trireme::sim
