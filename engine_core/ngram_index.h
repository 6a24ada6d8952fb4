// NgramIndex: finds where in a sequence's own tokens its last few stood before, so that what came
// after them then can be proposed as what comes next (prompt lookup).
//
//   tokens   a b c d e a b c        lookup 2..3: "a b c" stood before, so "d e ..." is proposed
//
// The longest n-gram of the bounds wins, of several places the first: as vLLM's `ngram` method.
// Each n-gram is entered once, so a token costs the same however long the sequence is; memory is
// 16 to 32 bytes for each token and n. Exact: hashes only lead to tokens, which are compared.
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace trireme::engine {

struct NgramBounds {
  uint32_t shortest = 5;  // At least 1.
  uint32_t longest = 5;   // At least `shortest`, at most kNgramMax.
};
inline constexpr uint32_t kNgramMax = 16;

class NgramIndex {
 public:
  // Where the proposed tokens begin in `tokens`: always before its end. `tokens` may only have
  // grown since the last call, and the bounds stay the same.
  [[nodiscard]] std::optional<uint32_t> find(std::span<const int32_t> tokens,
                                             const NgramBounds& bounds);

 private:
  struct Entry {
    uint32_t length = 0;  // 0: empty.
    uint32_t end = 0;
  };

  void enter(std::span<const int32_t> tokens, uint32_t end, const NgramBounds& bounds);
  void make_room(std::span<const int32_t> tokens, const NgramBounds& bounds);
  // The n-gram's entry, or the empty one where it belongs.
  [[nodiscard]] Entry& place_of(std::span<const int32_t> tokens, uint32_t end, uint32_t length,
                                uint64_t hash);

  std::vector<Entry> table_;  // Open addressing, a power of two, at most half full.
  std::size_t used_ = 0;
  uint32_t entered_ = 0;  // All n-grams that end up to here are in the table.
};

}  // namespace trireme::engine
