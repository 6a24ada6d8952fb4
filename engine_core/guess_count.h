// GuessCount: how many tokens are guessed next for one request: fewer where few were right lately.
//
// Each guess up to the first wrong one is a trial; the share of trials that were right, recent ones
// counting more, is the chance of the next one. Guess i is right only if all before it are, with
// the i-th power of that chance, and is made while this is at least kWorthwhile. Where not even the
// first is, there are none for kRestTurns turns and then one, to see whether the text has changed.
//
// Pure: the same history gives the same numbers. Threads: one owner.
#pragma once

#include <cstdint>

namespace trireme::engine {

class GuessCount {
 public:
  static constexpr float kWorthwhile = 0.3F;
  static constexpr uint32_t kRestTurns = 4;

  // A turn in which up to `most`, at least 1, may be guessed: how many are.
  [[nodiscard]] uint32_t next(uint32_t most);
  // Of `guessed` the first `accepted` were right.
  void take(uint32_t guessed, uint32_t accepted);

 private:
  static constexpr float kKept = 0.95F;  // Of what is known already, at each draft.

  // At first as if a few had been right: the first drafts are long.
  float right_ = 4;
  float tried_ = 4;
  uint32_t rested_ = 0;  // Turns without a guess.
};

}  // namespace trireme::engine
