#include "common/zmq/send_window.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::zmq {

SendWindow::SendWindow(uint32_t receiver_count, std::size_t records_max, std::size_t bytes_max)
    : records_max_(records_max),
      bytes_max_(bytes_max),
      acked_(receiver_count),
      sent_(receiver_count) {
  TRIREME_CHECK(receiver_count > 0 && records_max > 0, "a window has a receiver and room");
}

bool SendWindow::has_room(std::size_t bytes) const {
  return records_.empty() || (records_.size() < records_max_ && bytes_ + bytes <= bytes_max_);
}

void SendWindow::push(std::span<const std::byte> record) {
  records_.emplace_back(record.begin(), record.end());
  bytes_ += record.size();
}

std::span<const std::byte> SendWindow::next_record(uint32_t receiver) const {
  TRIREME_CHECK(has_unsent(receiver) && sent_[receiver] >= base_, "kept until it is taken");
  return records_[sent_[receiver] - base_];
}

SendWindow::Report SendWindow::on_taken(uint32_t receiver, uint64_t sequence) {
  if (sequence > end()) return Report::kBeyondEnd;
  if (sequence < base_) return Report::kTooOld;
  acked_[receiver] = std::max(acked_[receiver], sequence);
  sent_[receiver] = std::max(sent_[receiver], sequence);
  drop_taken();
  return Report::kTaken;
}

SendWindow::Report SendWindow::on_wanted(uint32_t receiver, uint64_t sequence) {
  const Report report = on_taken(receiver, sequence);
  if (report == Report::kTaken) sent_[receiver] = std::max(sequence, base_);
  return report;
}

uint32_t SendWindow::slowest() const {
  return static_cast<uint32_t>(std::min_element(acked_.begin(), acked_.end()) - acked_.begin());
}

void SendWindow::drop_taken() {
  const uint64_t all_have = acked_[slowest()];
  for (; base_ < all_have; ++base_) {
    bytes_ -= records_.front().size();
    records_.pop_front();
  }
}

}  // namespace trireme::zmq
