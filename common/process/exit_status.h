// How a process ended, in words a person can act on.
#pragma once

#include <sys/types.h>

#include <string>

namespace trireme::process {

struct ExitStatus {
  int code = 0;    // Meaningful when `signal` is 0.
  int signal = 0;  // The signal that ended the process, or 0.
  bool dumped_core = false;

  [[nodiscard]] bool is_success() const { return signal == 0 && code == 0; }
  // "exit code 3", "killed by signal 9 (SIGKILL)", "killed by signal 11 (SIGSEGV), core dumped".
  [[nodiscard]] std::string text() const;

  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

}  // namespace trireme::process
