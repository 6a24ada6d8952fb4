// A process that dies takes its descendants with it, also those it did not start itself.
//
// The parent holds the only write end of a pipe; the child inherits the read end (its number is in
// TRIREME_DEATH_PIPE). Whoever arms the read end asks the kernel to send it SIGKILL on the pipe's
// hang-up (F_SETSIG): no thread watches, and a process that is stuck or stopped dies as well.
//
//   parent ── write end                    kill -9 parent: the kernel closes the write end
//      └ mpirun, sh, … ── read end         and kills every process that armed the read end
//           └ our program ── arms it in main()
//
// ChildProcess arms the pipe between fork and exec, so a direct child needs to do nothing. A
// program that may be started through somebody else's launcher calls arm_inherited_death_pipe() in
// main().
#pragma once

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::process {

inline constexpr char kDeathPipeVariable[] = "TRIREME_DEATH_PIPE";

struct DeathPipe {
  UniqueFd read_end;   // For the child.
  UniqueFd write_end;  // Close-on-exec; closing it kills who armed the other end.
};

[[nodiscard]] StatusOr<DeathPipe> make_death_pipe();

// From now on this process is killed when the last write end of `read_end`'s pipe closes; at once
// if that has happened already. Async-signal-safe. Gives false (errno says why) where it cannot.
[[nodiscard]] bool arm_death_pipe(int read_end);

// Arms the pipe that TRIREME_DEATH_PIPE names; OK and no effect when the variable is not set.
[[nodiscard]] Status arm_inherited_death_pipe();

}  // namespace trireme::process
