#include "engine_core/guess_count.h"

namespace trireme::engine {

uint32_t GuessCount::next(uint32_t most) {
  const float chance = right_ / tried_;
  uint32_t count = 0;
  for (float all = chance; count < most && all >= kWorthwhile; all *= chance) ++count;
  if (count == 0 && ++rested_ > kRestTurns) return 1;
  return count;
}

void GuessCount::take(uint32_t guessed, uint32_t accepted) {
  if (guessed == 0) return;
  rested_ = 0;
  const uint32_t trials = accepted < guessed ? accepted + 1 : accepted;
  right_ = right_ * kKept + static_cast<float>(accepted);
  tried_ = tried_ * kKept + static_cast<float>(trials);
}

}  // namespace trireme::engine
