// SpscRing: a bounded queue from one thread to another; neither ever blocks.
//
// push() and the later look of a Bell (bell.h) at is_empty() are sequentially consistent, so no
// wake-up is lost. Threads: push() and is_full() by the one producer, pop() by the one consumer,
// is_empty() by both.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace trireme::engine {

template <typename T>
class SpscRing {
 public:
  // `capacity` is rounded up to a power of two.
  explicit SpscRing(std::size_t capacity)
      : slots_(std::bit_ceil(capacity)), mask_(slots_.size() - 1) {}

  // False when full; `value` is then untouched.
  bool push(T&& value) {
    if (is_full()) return false;
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    slots_[tail & mask_] = std::move(value);
    tail_.store(tail + 1, std::memory_order_seq_cst);
    return true;
  }
  [[nodiscard]] std::optional<T> pop() {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_seq_cst) == head) return std::nullopt;
    std::optional<T> value(std::move(slots_[head & mask_]));
    head_.store(head + 1, std::memory_order_release);
    return value;
  }
  [[nodiscard]] bool is_full() const {
    return tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire) > mask_;
  }
  [[nodiscard]] bool is_empty() const {
    return tail_.load(std::memory_order_seq_cst) == head_.load(std::memory_order_acquire);
  }

 private:
  static constexpr std::size_t kLine = 128;
  std::vector<T> slots_;
  std::size_t mask_;
  alignas(kLine) std::atomic<std::size_t> head_{0};
  alignas(kLine) std::atomic<std::size_t> tail_{0};
};

}  // namespace trireme::engine
