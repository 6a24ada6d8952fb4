// PulseWatch: does a child's main loop go on? Pure: what is seen of it, and when, comes in.
//
//   starting ── first beat ─▶ beating ── no beat for silence_max ─▶ stuck
//       └── its process stopped (SIGSTOP) for silence_max ────────▶ stuck
//
// A child that starts may load weights for minutes without a turn: only a stopped process is held
// against it. Time counts only while the parent looks: when it comes late itself (it was stopped,
// the machine was suspended or far too busy), everybody gets a fresh period. A process with a
// debugger is let be, and gets a fresh period when the debugger leaves.
// Threads: one owner. Time never goes back.
#pragma once

#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/process/process_state.h"

namespace trireme::process {

struct PulseSighting {
  uint64_t beats = 0;
  ProcessState process;
  bool is_traced = false;
};

class PulseWatch {
 public:
  // How often to look. After a longer pause than kGapMax we are late ourselves.
  static constexpr Duration kInterval = std::chrono::seconds(1);
  static constexpr Duration kGapMax = std::chrono::seconds(3);
  // Less than some looks and beats apart would be chance.
  static constexpr Duration kSilenceMin = std::chrono::seconds(4);

  explicit PulseWatch(Duration silence_max);

  // A new life begins.
  void on_started(Instant now);
  // Is it stuck?
  [[nodiscard]] bool look(const PulseSighting& seen, Instant now);
  // Has it beaten since the last look? Then no more needs to be known of its process.
  [[nodiscard]] bool is_news(uint64_t beats) const { return beats != beats_; }
  [[nodiscard]] Duration silence() const { return silence_; }
  // "killed, as its main loop made no turn for 60.0 s (process state T, stopped)"
  [[nodiscard]] std::string describe(const PulseSighting& seen) const;

 private:
  Duration silence_max_;
  uint64_t beats_ = 0;
  Duration silence_{};
  Instant looked_at_{};
};

}  // namespace trireme::process
