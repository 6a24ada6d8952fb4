// What the kernel says of a process, from /proc/<pid>/stat: is it stopped, does it compute?
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace trireme::process {

struct ProcessState {
  char letter = '?';       // R runs, S sleeps, D waits for a disk, T stopped, t traced, Z ended.
  uint64_t cpu_ticks = 0;  // Of all its threads, user and system.

  [[nodiscard]] bool is_stopped() const { return letter == 'T' || letter == 't'; }
  friend bool operator==(const ProcessState&, const ProcessState&) = default;
};

// Nothing: there is no such process (any more).
[[nodiscard]] std::optional<ProcessState> read_process_state(uint32_t pid);

// Is a debugger (or strace) at it? From /proc/<pid>/status.
[[nodiscard]] bool is_traced(uint32_t pid);

// The text of a stat file. The name in it may hold blanks and brackets.
[[nodiscard]] std::optional<ProcessState> parse_process_state(std::string_view stat);

}  // namespace trireme::process
