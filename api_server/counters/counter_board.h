// CounterBoard: the numbers of all api-servers of a node, in memory that outlives each of them.
//
//   launcher     create(slots, words)          one slot an api-server; children inherit the fd
//   api-server   attach(fd, slot)              base(): what the life before it had counted
//                write(numbers)                now and then, and before a read
//                read(slot)                    of a sibling, as of its last write
//
// A life that ends leaves its slot as it was, and the next one counts on from there: a sum over the
// slots never falls. A write is seen whole or not at all, also when a kill cut it short.
// Threads and processes: a slot has one writer at a time; any number read.
// Bounds: words of a slot; what exceeds them is not written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/shm/mapping.h"
#include "common/status.h"

namespace trireme::api {

class CounterBoard {
 public:
  // Of a slot; front_end_counters.cc keeps to it.
  static constexpr std::size_t kFixedWords = 1024;
  static constexpr std::size_t kWordsPerEngine = 64;
  [[nodiscard]] static constexpr std::size_t words_for(uint32_t engines) {
    return kFixedWords + engines * kWordsPerEngine;
  }

  [[nodiscard]] static StatusOr<CounterBoard> create(uint32_t slots, std::size_t words);
  // kInvalidArgument: not a board, or it has no such slot.
  [[nodiscard]] static StatusOr<CounterBoard> attach(UniqueFd fd, uint32_t slot);

  [[nodiscard]] int fd() const { return mapping_.fd(); }
  [[nodiscard]] uint32_t slots() const { return slots_; }
  [[nodiscard]] uint32_t slot() const { return slot_; }
  [[nodiscard]] std::size_t words_max() const { return words_max_; }

  // As the slot stood when it was attached.
  [[nodiscard]] const std::vector<uint64_t>& base() const { return base_; }
  void write(std::span<const uint64_t> words);
  // Empty: nothing was written yet.
  [[nodiscard]] std::vector<uint64_t> read(uint32_t slot) const;

 private:
  CounterBoard(shm::Mapping mapping, uint32_t slots, std::size_t words, uint32_t slot);
  [[nodiscard]] std::span<uint64_t> slot_words(uint32_t slot) const;
  [[nodiscard]] std::span<uint64_t> page_of(uint32_t slot, uint64_t number) const;

  shm::Mapping mapping_;
  uint32_t slots_;
  std::size_t words_max_;
  uint32_t slot_;
  std::vector<uint64_t> base_;
};

}  // namespace trireme::api
