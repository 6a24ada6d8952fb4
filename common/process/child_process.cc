#include "common/process/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/process/death_pipe.h"

namespace trireme::process {
namespace {

// Everything the child needs between fork and exec, prepared before: there it may not allocate.
struct ExecPlan {
  std::vector<std::string> texts;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::vector<int> inherited_fds;
  int streams[3] = {-1, -1, -1};
  pid_t parent = -1;
  int death_pipe = -1;
  int error_pipe = -1;
  bool own_group = true;
  bool dies_with_thread = false;
};

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<std::string> merged_environment(const std::vector<std::string>& added) {
  std::vector<std::string> merged;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const auto has_same_name = [&](const std::string& other) {
      return name_of(other) == name_of(*variable);
    };
    if (std::none_of(added.begin(), added.end(), has_same_name)) merged.emplace_back(*variable);
  }
  merged.insert(merged.end(), added.begin(), added.end());
  return merged;
}

ExecPlan make_plan(const ChildOptions& options, int death_pipe, int error_pipe) {
  std::vector<std::string> env = options.env;
  env.push_back(absl::StrFormat("%s=%d", kDeathPipeVariable, death_pipe));
  ExecPlan plan{.texts = options.argv,
                .argv = {},
                .envp = {},
                .inherited_fds = options.inherited_fds,
                .streams = {options.stdin_fd, options.stdout_fd, options.stderr_fd},
                .parent = ::getpid(),
                .death_pipe = death_pipe,
                .error_pipe = error_pipe,
                .own_group = options.own_group,
                .dies_with_thread = ::gettid() == ::getpid()};
  plan.inherited_fds.push_back(death_pipe);
  for (std::string& variable : merged_environment(env)) plan.texts.push_back(std::move(variable));
  for (std::size_t i = 0; i < plan.texts.size(); ++i) {
    (i < options.argv.size() ? plan.argv : plan.envp).push_back(plan.texts[i].data());
  }
  plan.argv.push_back(nullptr);
  plan.envp.push_back(nullptr);
  return plan;
}

void reset_signals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool set_up_descriptors(const ExecPlan& plan) {
  for (int stream = 0; stream < 3; ++stream) {
    const int from = plan.streams[stream];
    if (from >= 0 && from != stream && ::dup2(from, stream) < 0) return false;
  }
  // For what a library opened without O_CLOEXEC; a sandbox may forbid it, and ours are set anyway.
  ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  for (const int fd : plan.inherited_fds) {
    if (::fcntl(fd, F_SETFD, 0) != 0) return false;
  }
  return true;
}

// Runs in the forked child: async-signal-safe calls only.
[[noreturn]] void run_child(const ExecPlan& plan) {
  bool is_ready = !plan.own_group || ::setpgid(0, 0) == 0;
  if (plan.dies_with_thread) {
    is_ready = is_ready && ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    // A parent that died before the line above sends nothing any more.
    if (::getppid() != plan.parent) ::_exit(1);
  }
  is_ready = is_ready && set_up_descriptors(plan) && arm_death_pipe(plan.death_pipe);
  if (is_ready) {
    reset_signals();
    ::execve(plan.argv[0], plan.argv.data(), plan.envp.data());
  }
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = ::write(plan.error_pipe, &reason, sizeof(reason));
  ::_exit(127);
}

ExitStatus status_of(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return ExitStatus{.code = info.si_status};
  return ExitStatus{.signal = info.si_status, .dumped_core = info.si_code == CLD_DUMPED};
}

// The child runs none of our handlers, which could write to what it shares with us.
pid_t fork_with_signals_blocked(const ExecPlan& plan) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(plan);
  const int reason = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = reason;
  return pid;
}

}  // namespace

StatusOr<ChildProcess> ChildProcess::spawn(const ChildOptions& options) {
  TRIREME_CHECK(!options.argv.empty(), "a child needs a program");
  const std::string& program = options.argv[0];
  TRIREME_ASSIGN_OR_RETURN(DeathPipe death_pipe, make_death_pipe());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return error(StatusCode::kResourceExhausted, "start %s: pipe2: %s", program,
                 std::strerror(errno));
  }
  UniqueFd error_read(ends[0]), error_write(ends[1]);
  const ExecPlan plan = make_plan(options, death_pipe.read_end.get(), error_write.get());
  const pid_t pid = fork_with_signals_blocked(plan);
  if (pid < 0) {
    return error(StatusCode::kResourceExhausted, "start %s: fork: %s", program,
                 std::strerror(errno));
  }
  error_write.reset();
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) {
    const int reason = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error(StatusCode::kFailedPrecondition, "start %s: pidfd_open (Linux 5.3): %s", program,
                 std::strerror(reason));
  }
  ChildProcess child(pid, UniqueFd(pidfd), std::move(death_pipe.write_end));

  int reason = 0;
  ssize_t got;
  do {
    got = ::read(error_read.get(), &reason, sizeof(reason));
  } while (got < 0 && errno == EINTR);
  if (got == sizeof(reason)) {
    return error(reason == ENOENT ? StatusCode::kNotFound : StatusCode::kFailedPrecondition,
                 "start %s: %s", program, std::strerror(reason));
  }
  return child;
}

ChildProcess::ChildProcess(pid_t pid, UniqueFd pidfd, UniqueFd death_pipe)
    : pid_(pid), pidfd_(std::move(pidfd)), death_pipe_(std::move(death_pipe)) {}

ChildProcess::ChildProcess(ChildProcess&&) noexcept = default;

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  if (pidfd_.is_open()) kill_and_reap();
  pid_ = other.pid_;
  pidfd_ = std::move(other.pidfd_);
  death_pipe_ = std::move(other.death_pipe_);
  exit_ = other.exit_;
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pidfd_.is_open()) kill_and_reap();
}

std::optional<ExitStatus> ChildProcess::poll_exit() {
  if (exit_) return exit_;
  siginfo_t info{};
  const int rc = ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  if (rc == 0 && info.si_pid == 0) return std::nullopt;
  TRIREME_CHECK(rc == 0, "nobody but us may reap our child");
  exit_ = status_of(info);
  return exit_;
}

StatusOr<ExitStatus> ChildProcess::wait(Deadline deadline) {
  while (!poll_exit()) {
    constexpr int64_t kSliceMsMax = 60'000;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining()).count();
    if (left == 0) return error(StatusCode::kDeadlineExceeded, "process %d still runs", pid_);
    pollfd entry{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, kSliceMsMax)));
  }
  return *exit_;
}

void ChildProcess::send_signal(int signal) const {
  if (!exit_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

ExitStatus ChildProcess::stop(Deadline deadline) {
  send_signal(SIGTERM);
  if (const auto exit = wait(deadline); exit.ok()) return *exit;
  return kill_and_reap();
}

ExitStatus ChildProcess::kill_and_reap() {
  send_signal(SIGKILL);
  while (!poll_exit()) {
    pollfd entry{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, -1);
  }
  return *exit_;
}

}  // namespace trireme::process
