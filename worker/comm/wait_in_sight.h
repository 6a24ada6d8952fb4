// A wait for a word in shared memory, as shm::wait_for(), that shows in the worker's sign of life:
// who waits on and on is not taken for one that cannot run.
#pragma once

#include <algorithm>

#include "common/shm/doorbell.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

template <typename IsReady>
bool wait_in_sight(const LifeSigns& life, shm::Doorbell& bell, uint32_t waiter,
                   shm::SpinBudget& budget, Deadline deadline, const IsReady& is_ready) {
  while (true) {
    life.show_wait();
    const Deadline next(std::min(deadline.at(), now() + LifeSigns::kShowWait));
    if (shm::wait_for(bell, waiter, budget, next, is_ready)) return true;
    if (deadline.has_passed()) return false;
  }
}

}  // namespace trireme::worker
