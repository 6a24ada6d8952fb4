// FloatBuffer: memory for floats that grows and never shrinks; what is in it is overwritten before
// it is read. Threads: one owner.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace trireme::worker {

class FloatBuffer {
 public:
  // Valid until the next call.
  std::span<float> take(std::size_t count) {
    if (count > count_) {
      values_ = std::make_unique_for_overwrite<float[]>(count);
      count_ = count;
    }
    return {values_.get(), count};
  }

 private:
  std::unique_ptr<float[]> values_;
  std::size_t count_ = 0;
};

}  // namespace trireme::worker
