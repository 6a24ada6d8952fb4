// TokenRate: tokens per second, from a counter that is looked at now and then. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "common/clock.h"

namespace trireme::api {

class TokenRate {
 public:
  // Between the last two looks; nothing before there were two. A counter that fell (another life)
  // begins anew.
  void look(uint64_t tokens, Instant now) {
    const double seconds = std::chrono::duration<double>(now - looked_at_).count();
    const bool is_first = looked_at_ == Instant{} || tokens < tokens_ || seconds <= 0;
    per_second_ =
        is_first ? std::nullopt : std::optional(static_cast<double>(tokens - tokens_) / seconds);
    tokens_ = tokens;
    looked_at_ = now;
  }
  [[nodiscard]] std::optional<double> per_second() const { return per_second_; }

 private:
  uint64_t tokens_ = 0;
  Instant looked_at_{};
  std::optional<double> per_second_;
};

}  // namespace trireme::api
