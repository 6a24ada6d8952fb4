// The two ends of a stream of numbered messages over a connection that may break and lose some.
//
//   SendingEnd   taken ≤ next ≤ filled ≤ taken + kStreamMessagesMax
//                keeps what the other has not taken; goes back to what the other asks for
//   TakingEnd    taken ≤ arrived ≤ taken + kStreamMessagesMax
//                lets in what is next, and asks once at each gap
//
// Numbers count from 0. Whoever holds an end keeps its messages, at number % kStreamMessagesMax.
// Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace trireme::worker {

inline constexpr uint32_t kStreamMessagesMax = 32;

class SendingEnd {
 public:
  [[nodiscard]] uint64_t filled() const { return filled_; }
  [[nodiscard]] uint64_t next() const { return next_; }
  [[nodiscard]] uint64_t taken() const { return taken_; }
  [[nodiscard]] bool has_room() const { return filled_ - taken_ < kStreamMessagesMax; }
  [[nodiscard]] bool has_unsent() const { return next_ < filled_; }
  [[nodiscard]] bool is_all_taken() const { return taken_ == filled_; }

  void mark_filled() { ++filled_; }
  void mark_sent() { ++next_; }
  // The other has taken all before `count`. False: so many there never were.
  [[nodiscard]] bool on_taken(uint64_t count) {
    if (count > filled_) return false;
    taken_ = std::max(taken_, count);
    next_ = std::max(next_, taken_);
    return true;
  }
  // The other wants all from `sequence` on, again if need be.
  void on_wanted(uint64_t sequence) {
    if (sequence >= taken_) next_ = std::min(next_, sequence);
  }

 private:
  uint64_t taken_ = 0;
  uint64_t next_ = 0;
  uint64_t filled_ = 0;
};

class TakingEnd {
 public:
  enum class Verdict : uint8_t { kNext, kSeen, kGap, kKnownGap };

  [[nodiscard]] uint64_t arrived() const { return arrived_; }
  [[nodiscard]] uint64_t taken() const { return taken_; }
  [[nodiscard]] bool has_message() const { return taken_ < arrived_; }
  [[nodiscard]] bool has_unreported() const { return reported_ < taken_; }
  // The sender's room shrinks.
  [[nodiscard]] bool must_report() const { return taken_ - reported_ >= kStreamMessagesMax / 4; }

  // kNext: it is to be kept.
  [[nodiscard]] Verdict on_message(uint64_t sequence) {
    if (sequence < arrived_) return Verdict::kSeen;
    if (sequence > arrived_ || arrived_ - taken_ == kStreamMessagesMax) {
      return std::exchange(gap_at_, arrived_) == arrived_ ? Verdict::kKnownGap : Verdict::kGap;
    }
    ++arrived_;
    return Verdict::kNext;
  }
  void take() { ++taken_; }
  void mark_reported() { reported_ = taken_; }

 private:
  uint64_t taken_ = 0;
  uint64_t arrived_ = 0;
  uint64_t reported_ = 0;
  uint64_t gap_at_ = UINT64_MAX;
};

}  // namespace trireme::worker
