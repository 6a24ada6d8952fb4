// Time enters the pure parts by argument; only clock.cc reads a clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace trireme {

// A point on the machine's monotonic clock, comparable between processes of one node.
using Instant = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;
using Duration = std::chrono::nanoseconds;

[[nodiscard]] Instant now();
[[nodiscard]] int64_t unix_milliseconds();

// The time until which a call may wait.
class Deadline {
 public:
  explicit constexpr Deadline(Instant at) : at_(at) {}
  [[nodiscard]] static Deadline after(Duration duration) { return Deadline(now() + duration); }
  [[nodiscard]] static constexpr Deadline never() { return Deadline(Instant::max()); }

  [[nodiscard]] constexpr Instant at() const { return at_; }
  [[nodiscard]] constexpr bool is_never() const { return at_ == Instant::max(); }
  [[nodiscard]] bool has_passed() const { return !is_never() && now() >= at_; }
  // Never negative.
  [[nodiscard]] Duration remaining() const {
    if (is_never()) return Duration::max();
    const Instant time = now();
    return at_ > time ? at_ - time : Duration::zero();  // Instant::min() - time would overflow.
  }

 private:
  Instant at_;
};

}  // namespace trireme
