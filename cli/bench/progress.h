// Progress: one line on standard error about a job that takes longer than two seconds. On a
// terminal it is redrawn in place several times a second, else a line every ten seconds.
// Threads: one owner; update() is cheap and may be called often.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/clock.h"

namespace trireme::bench {

class Progress {
 public:
  static constexpr Duration kQuiet = std::chrono::seconds(2);
  static constexpr Duration kTick = std::chrono::milliseconds(200);

  // Disabled: says nothing at all.
  Progress(std::string what, uint64_t total, bool is_enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `note`: what else there is to say, for instance a rate.
  void update(uint64_t done, std::string_view note, Instant now);
  // Takes the line of a terminal away, so that other output begins at its left.
  void clear();

 private:
  std::string what_;
  uint64_t total_;
  bool is_enabled_;
  bool is_terminal_;
  bool has_line_ = false;
  Instant begin_;
  Instant next_;
};

}  // namespace trireme::bench
