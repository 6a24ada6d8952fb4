// RestartPolicy: when a child that died is started again. Pure: time passes in, decisions out.
//
//   kStopped ─ started ─> kRunning ─ exited ─> kBackingOff ─ (restart_at) ─ started ─> kRunning
//                                        └─ restarts_max in a row ─> kGivenUp
//
// The n-th death in a row waits backoff_min · 2^(n-1), at most backoff_max. A child that ran for
// `healthy_after` before it died begins a new row. The reason of the last death is kept.
// Threads: one owner. Total: an event that does not fit the state changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/clock.h"

namespace trireme::process {

struct RestartOptions {
  Duration backoff_min = std::chrono::milliseconds(100);
  Duration backoff_max = std::chrono::seconds(30);
  Duration healthy_after = std::chrono::seconds(60);
  uint32_t restarts_max = UINT32_MAX;  // In one row of deaths.
};

enum class ChildState : uint8_t { kStopped, kRunning, kBackingOff, kGivenUp };

class RestartPolicy {
 public:
  explicit RestartPolicy(RestartOptions options) : options_(options) {}

  void on_started(Instant now);
  // The child ended, or could not be started; `reason` as ExitStatus::text() gives it.
  void on_exited(Instant now, std::string reason);
  // Asked for: the child is stopped and stays so until on_started().
  void on_stopped();

  [[nodiscard]] ChildState state() const { return state_; }
  [[nodiscard]] bool is_due(Instant now) const {
    return state_ == ChildState::kBackingOff && now >= restart_at_;
  }
  // When to start it again; nothing unless it is backing off.
  [[nodiscard]] std::optional<Instant> restart_at() const;
  [[nodiscard]] const std::string& last_reason() const { return last_reason_; }
  [[nodiscard]] uint64_t restarts_total() const { return restarts_total_; }
  [[nodiscard]] uint32_t deaths_in_a_row() const { return deaths_in_a_row_; }

 private:
  [[nodiscard]] Duration backoff() const;

  RestartOptions options_;
  ChildState state_ = ChildState::kStopped;
  Instant started_at_{};
  Instant restart_at_{};
  uint32_t deaths_in_a_row_ = 0;
  uint64_t restarts_total_ = 0;
  std::string last_reason_;
};

}  // namespace trireme::process
