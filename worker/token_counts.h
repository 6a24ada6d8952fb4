// TokenCounts: which tokens a sequence holds, and how often its output does; kept token by token,
// so that penalties cost what the sequence's distinct tokens cost, not its length or the
// vocabulary. Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trireme::worker {

class TokenCounts {
 public:
  struct Entry {
    int32_t token = 0;
    uint32_t output_count = 0;  // 0: in the prompt only.
  };

  void clear();
  // All of the prompt before the output.
  void add_prompt(int32_t token) {
    (void)entry_of(token);
    prompt_entries_ = entries_.size();
  }
  void add_output(int32_t token) { ++entry_of(token).output_count; }
  // The output token added last is gone again.
  void take_back_output(int32_t token);
  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }  // By first sight.

 private:
  Entry& entry_of(int32_t token);
  [[nodiscard]] std::size_t place_of(int32_t token) const;
  void grow();

  std::vector<Entry> entries_;
  std::size_t prompt_entries_ = 0;  // The first ones.
  std::vector<uint32_t> table_;     // Open addressing, a power of two: entry index + 1, or 0.
};

}  // namespace trireme::worker
