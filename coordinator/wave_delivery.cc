#include "coordinator/wave_delivery.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::coordinator {

void WaveDelivery::start(WaveId wave, const std::vector<wire::MemberKey>& engines) {
  TRIREME_CHECK(message_.sequence == 0 || wave >= message_.wave, "waves only grow");
  message_ = {.wave = wave, .sequence = message_.sequence + 1};
  is_running_ = true;
  send_at_.clear();
  for (const wire::MemberKey& engine : engines) send_at_[engine] = Instant::min();
}

void WaveDelivery::complete() {
  is_running_ = false;
  send_at_.clear();
}

void WaveDelivery::on_joined(const wire::MemberKey& engine) {
  if (is_running_) send_at_.try_emplace(engine, Instant::min());
}

void WaveDelivery::on_left(const wire::MemberKey& engine) { send_at_.erase(engine); }

void WaveDelivery::on_ack(const wire::MemberKey& engine, uint64_t sequence) {
  if (sequence == message_.sequence) send_at_.erase(engine);
}

std::vector<wire::MemberKey> WaveDelivery::due(Instant now) {
  std::vector<wire::MemberKey> engines;
  for (auto& [engine, at] : send_at_) {
    if (at > now) continue;
    engines.push_back(engine);
    at = now + kRepeat;
  }
  return engines;
}

Instant WaveDelivery::wakeup() const {
  Instant first = Instant::max();
  for (const auto& [engine, at] : send_at_) first = std::min(first, at);
  return first;
}

}  // namespace trireme::coordinator
