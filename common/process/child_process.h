// ChildProcess: a process of ours that never outlives us and never becomes a zombie.
//
// spawn() forks and executes `argv`. Before the new program runs, the child
//   - is tied to us twice: by its death pipe (see death_pipe.h) and, when spawn() runs on the main
//     thread, by PR_SET_PDEATHSIG. PDEATHSIG fires when the *thread* that forked ends, so from any
//     other thread the pipe, which knows only the process, stands alone;
//   - leaves our process group (`own_group`), so that Ctrl-C reaches the parent, which then stops
//     its children in order;
//   - has every signal at its default and unblocked, and no descriptor of ours but 0, 1, 2, the
//     death pipe and `inherited_fds`, which keep their numbers.
// A program that cannot be executed is an error of spawn(), not an exit code.
//
// Threads: one owner at a time. Waiting is by pidfd(): readable once the child has ended; put it in
// a poller, then call poll_exit(). Destruction kills the child and reaps it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/process/exit_status.h"
#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::process {

struct ChildOptions {
  std::vector<std::string> argv;  // argv[0] is the path; no search in PATH.
  std::vector<std::string> env;   // "NAME=value", over ours.
  std::vector<int> inherited_fds;
  int stdin_fd = -1;  // Of ours; -1: the child shares our own stream.
  int stdout_fd = -1;
  int stderr_fd = -1;
  bool own_group = true;
};

class ChildProcess {
 public:
  [[nodiscard]] static StatusOr<ChildProcess> spawn(const ChildOptions& options);

  ChildProcess(ChildProcess&&) noexcept;
  ChildProcess& operator=(ChildProcess&&) noexcept;
  ~ChildProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }

  // How the child ended, or nothing while it runs. Never blocks; the answer stays the same.
  std::optional<ExitStatus> poll_exit();
  // As poll_exit(), but waits. DeadlineExceeded while the child still runs.
  [[nodiscard]] StatusOr<ExitStatus> wait(Deadline deadline);
  // No effect on a child that has ended.
  void send_signal(int signal) const;
  // Nobody waits for its end any more, nor reaps it before we end: it was killed, and hangs in the
  // kernel. Only to be destroyed then.
  void leave() { pidfd_.reset(); }
  // SIGTERM, then SIGKILL at the deadline; gone and reaped on return.
  ExitStatus stop(Deadline deadline);

 private:
  ChildProcess(pid_t pid, UniqueFd pidfd, UniqueFd death_pipe);
  ExitStatus kill_and_reap();

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd death_pipe_;
  std::optional<ExitStatus> exit_;
};

}  // namespace trireme::process
