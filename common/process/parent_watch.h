// end_with_parent(): for a process that a foreign launcher (mpirun, srun, torchrun) starts: killed
// when the process that started it ends, however that ends, kill -9 included.
//
// A thread ("parent") waits on the parent's pidfd and sends SIGKILL to its own process. Not by
// PR_SET_PDEATHSIG: that fires when the *thread* that forked ends, and launchers fork on threads
// that come and go. Our own children use death_pipe.h.
#pragma once

#include "common/status.h"

namespace trireme::process {

[[nodiscard]] Status end_with_parent();

}  // namespace trireme::process
