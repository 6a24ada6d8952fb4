// HiddenPipe: hidden rows from one pipeline stage to the next, one direction, in order.
//
// Both ends call with the same counts in the same order (each stage cuts a step the same way).
// Every call has the deadline given at creation; after an error the pipe is broken and every later
// call fails at once. Threads: one at each end.
#pragma once

#include <span>

#include "common/status.h"

namespace trireme::worker {

class HiddenPipe {
 public:
  virtual ~HiddenPipe() = default;

  // kDeadlineExceeded names the stage that does not take or give rows.
  [[nodiscard]] virtual Status send(std::span<const float> values) = 0;
  [[nodiscard]] virtual Status receive(std::span<float> values) = 0;
};

}  // namespace trireme::worker
