#include "common/process/exit_status.h"

#include <cstring>

#include "absl/strings/str_format.h"

namespace trireme::process {

std::string ExitStatus::text() const {
  if (signal == 0) return absl::StrFormat("exit code %d", code);
  const char* const name = ::sigabbrev_np(signal);
  const char* const core = dumped_core ? ", core dumped" : "";
  if (name == nullptr) return absl::StrFormat("killed by signal %d%s", signal, core);
  return absl::StrFormat("killed by signal %d (SIG%s)%s", signal, name, core);
}

}  // namespace trireme::process
