// Randomness enters the pure parts by argument, so that one seed is one history.
#pragma once

#include <cstdint>

namespace trireme {

// SplitMix64 (Steele, Lea, Flood 2014): every seed is good, any state can be jumped to.
[[nodiscard]] constexpr uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit constexpr Random(uint64_t seed) : state_(seed) {}
  constexpr uint64_t next() {
    const uint64_t value = mix64(state_);
    state_ += 0x9E3779B97F4A7C15ULL;
    return value;
  }
  // Uniform in [0, bound); bound > 0.
  constexpr uint64_t below(uint64_t bound) { return next() % bound; }
  // Uniform in [0, 1).
  constexpr double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

// From the kernel, for seeds, incarnations and ids; never used inside a pure part.
[[nodiscard]] uint64_t entropy64();

}  // namespace trireme
