#include "engine_core/publisher.h"

#include <algorithm>
#include <utility>

namespace trireme::engine {

void Publisher::on_joined(const FrontEndJoined& event) {
  const uint32_t index = event.front_end.value;
  if (index >= front_ends_.size()) front_ends_.resize(index + 1);
  front_ends_[index] = FrontEnd{.serial = event.serial, .requests_told = UINT64_MAX};
  outputs_.drop(event.front_end);
}

void Publisher::on_left(FrontEndId front_end) {
  if (is_here(front_end)) front_ends_[front_end.value] = FrontEnd{};
  outputs_.drop(front_end);
}

bool Publisher::is_here(FrontEndId front_end) const {
  return front_end.value < front_ends_.size() && front_ends_[front_end.value].serial != 0;
}

std::optional<Duration> Publisher::interval(const FrontEnd& front_end,
                                            const wire::EngineStats& stats, bool is_idle) {
  const wire::EngineStanding& told = front_end.standing_told;
  const bool is_stale =
      front_end.shm_is_due || front_end.requests_told != front_end.requests_received ||
      front_end.waiting_told != stats.waiting || front_end.running_told != stats.running ||
      told.pause != stats.standing.pause || told.stall != stats.standing.stall;
  if (is_stale) return is_idle ? Duration{} : kStatsInterval;
  if (told.stepping != stats.standing.stepping) return kSteppingInterval;
  return std::nullopt;
}

void Publisher::publish(const wire::EngineStats& stats, bool is_idle, Instant now) {
  due_at_ = Instant::max();
  is_blocked_ = false;
  for (uint32_t index = 0; index < front_ends_.size(); ++index) {
    const FrontEnd& front_end = front_ends_[index];
    if (front_end.serial == 0) continue;
    const FrontEndId id{index};
    const bool has_outputs = outputs_.has_any(id);
    if (!has_outputs) {
      const std::optional<Duration> wait = interval(front_end, stats, is_idle);
      if (!wait) continue;
      if (const Instant next = front_end.told_at + *wait; now < next) {
        due_at_ = std::min(due_at_, next);
        continue;
      }
    }
    if (send(id, stats, now)) continue;
    is_blocked_ = is_blocked_ || has_outputs;
    due_at_ = std::min(due_at_, now + kStatsInterval);
  }
  // After the outputs that came before them.
  while (!is_blocked_ && !replies_.empty() && channel_.output.push(std::move(replies_.front()))) {
    replies_.erase(replies_.begin());
  }
  channel_.io_bell.ring();
}

void Publisher::tell_shm(const std::optional<wire::ShmStats>& stats, bool at_once) {
  shm_ = stats;
  for (FrontEnd& front_end : front_ends_) {
    front_end.shm_is_due = front_end.shm_told != shm_ && (at_once || front_end.shm_is_due);
  }
}

bool Publisher::owes_shm() const {
  return std::ranges::any_of(front_ends_, [this](const FrontEnd& front_end) {
    return front_end.serial != 0 && front_end.shm_told != shm_;
  });
}

bool Publisher::send(FrontEndId id, const wire::EngineStats& stats, Instant now) {
  if (channel_.output.is_full()) return false;
  FrontEnd& front_end = front_ends_[id.value];
  std::unique_ptr<OutputMessage> message = fresh_message(id);
  message->outputs.engine = engine_;
  message->outputs.incarnation = incarnation_;
  message->outputs.requests_received = front_end.requests_received;
  message->outputs.stats = stats;
  message->outputs.shm = front_end.shm_told == shm_ ? std::nullopt : shm_;
  outputs_.take(id, message->outputs.outputs);
  front_end.requests_told = front_end.requests_received;
  front_end.waiting_told = stats.waiting;
  front_end.running_told = stats.running;
  front_end.standing_told = stats.standing;
  front_end.shm_told = shm_;
  front_end.shm_is_due = false;
  front_end.told_at = now;
  return channel_.output.push(std::move(message));
}

void Publisher::reply(FrontEndId front_end, wire::UtilityReply reply) {
  if (!is_here(front_end) || replies_.size() >= EngineChannel::kOutputMax) return;
  std::unique_ptr<OutputMessage> message = fresh_message(front_end);
  message->reply = std::move(reply);
  replies_.push_back(std::move(message));
}

std::unique_ptr<OutputMessage> Publisher::fresh_message(FrontEndId id) {
  std::unique_ptr<OutputMessage> message;
  if (auto spent = channel_.spent.pop()) {
    message = *std::move(spent);
    message->reply.reset();
  } else {
    message = std::make_unique<OutputMessage>();
  }
  message->front_end = id;
  message->serial = front_ends_[id.value].serial;
  return message;
}

}  // namespace trireme::engine
