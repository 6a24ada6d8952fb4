// SendWindow: what a remote queue's sender keeps until every receiver has taken it. Pure.
//
//        base            acked(1)      sent(0)        end
//   ──────┴──────────────────┴─────────────┴────────────┴──>  sequence of records
//         kept, to be repeated after a loss  │  still to be sent to receiver 0
//
// A receiver reports "taken up to n" (advance), or "I want n" (advance and go back to n: what was
// sent after n is lost, or it has just connected). Records below every receiver's n are dropped.
// Bounds: at most `records_max` records, and at most `bytes_max` bytes unless a single record is
// larger.
// Threads: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace trireme::zmq {

class SendWindow {
 public:
  enum class Report : uint8_t { kTaken, kBeyondEnd, kTooOld };

  SendWindow(uint32_t receiver_count, std::size_t records_max, std::size_t bytes_max);

  [[nodiscard]] bool has_room(std::size_t bytes) const;
  void push(std::span<const std::byte> record);

  [[nodiscard]] bool has_unsent(uint32_t receiver) const { return sent_[receiver] < end(); }
  [[nodiscard]] uint64_t next_sequence(uint32_t receiver) const { return sent_[receiver]; }
  [[nodiscard]] std::span<const std::byte> next_record(uint32_t receiver) const;
  void mark_sent(uint32_t receiver) { ++sent_[receiver]; }

  // kBeyondEnd: never sent so far, the report is wrong. kTooOld: dropped already, the receiver has
  // lost what it had taken (it was started anew). Neither changes anything.
  Report on_taken(uint32_t receiver, uint64_t sequence);
  Report on_wanted(uint32_t receiver, uint64_t sequence);

  [[nodiscard]] uint64_t end() const { return base_ + records_.size(); }
  [[nodiscard]] uint32_t slowest() const;
  [[nodiscard]] uint64_t backlog_of(uint32_t receiver) const { return end() - acked_[receiver]; }

 private:
  void drop_taken();

  std::size_t records_max_;
  std::size_t bytes_max_;
  uint64_t base_ = 0;
  std::size_t bytes_ = 0;
  std::deque<std::vector<std::byte>> records_;
  std::vector<uint64_t> acked_;
  std::vector<uint64_t> sent_;
};

}  // namespace trireme::zmq
