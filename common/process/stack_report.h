// StackReport: what the threads of another process are at, as far as /proc tells, without stopping
// it and without a debugger: for a person who asks later why it stood still.
//
// For each thread: its name and state, the kernel function it waits in, its system call, and the
// return addresses on top of its stack, as file+offset for addr2line. Those are all words there
// that point into code, so some are left over from calls that have returned (the oldest trick of
// debuggers without unwind tables). A thread that runs has no readable stack. Needs the right to
// trace the process: a parent of the same user has it.
// Threads: any. Bounds: kThreadsMax threads, kWordsMax words of each stack.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace trireme::process {

inline constexpr std::size_t kThreadsMax = 256;
inline constexpr std::size_t kStackWordsMax = 1024;

// Empty: there is no such process (any more).
[[nodiscard]] std::string describe_stacks(uint32_t pid);

// Writes it to a file in $TMPDIR (/tmp), "trireme-stuck-<pid>-<time>.txt", and says which.
[[nodiscard]] StatusOr<std::string> keep_stacks(uint32_t pid);

// The same before a process that stands still is killed, told in the log; empty where it failed.
std::string log_stacks(uint32_t pid);

}  // namespace trireme::process
