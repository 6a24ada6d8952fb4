#include "common/process/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/process/last_word.h"
#include "common/process/process_state.h"
#include "common/process/pulse.h"
#include "common/process/pulse_watch.h"
#include "common/process/stack_report.h"

namespace trireme::process {
namespace {

constexpr int kPipeBytes = 1 << 20;

struct ErrorPipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// Non-blocking at both ends: a parent that is stopped must not stop its children.
StatusOr<ErrorPipe> make_error_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return error(StatusCode::kResourceExhausted, "pipe2: %s", std::strerror(errno));
  }
  (void)::fcntl(ends[0], F_SETPIPE_SZ, kPipeBytes);  // Beyond the user's limit it stays as it was.
  return ErrorPipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string log_format() {
  const char* const given = std::getenv("TRIREME_LOG_FORMAT");
  if (given != nullptr) return given;
  return ::isatty(STDERR_FILENO) == 1 ? "text" : "json";
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // Nowhere to say that our own standard error is gone or full.
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

struct Supervisor::Child {
  Child(std::size_t number, std::string title, ChildOptions what, Duration silence,
        RestartOptions restart)
      : index(number),
        name(std::move(title)),
        options(std::move(what)),
        silence_max(silence),
        policy(restart) {}

  // Passes whole lines on to our own standard error.
  void forward_lines() {
    char chunk[16384];
    ssize_t got;
    while ((got = ::read(errors.get(), chunk, sizeof(chunk))) > 0) {
      pending.append(chunk, static_cast<std::size_t>(got));
      const bool is_too_long = pending.size() > kLineBytesMax;
      const std::size_t end = is_too_long ? pending.size() - 1 : pending.rfind('\n');
      if (end == std::string::npos) continue;
      pass_on(pending.substr(0, end + 1));
      pending.erase(0, end + 1);
    }
  }
  void pass_on(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
      const std::string_view line = text.substr(0, end);
      if (const auto word = read_marked_line(line.substr(0, line.find('\n')))) {
        last_word = join_last_words(last_word, *word);
      } else {
        write_all(STDERR_FILENO, line);
      }
      text.remove_prefix(end);
    }
  }
  void close_errors() {
    forward_lines();
    if (!pending.empty()) pass_on(std::exchange(pending, {}) + "\n");
    errors.reset();
  }

  std::size_t index;
  std::string name;
  ChildOptions options;
  Duration silence_max;
  RestartPolicy policy;
  std::optional<ChildProcess> process;
  UniqueFd errors;
  std::string pending;  // A line that has not ended yet.
  Status last_word;
  std::optional<PulsePage> pulse;
  std::optional<PulseWatch> watch;  // Of the life that runs, until it is killed.
  std::string killed_for;
  bool is_wanted = true;
  bool is_new = true;
};

StatusOr<Supervisor> Supervisor::create(RestartOptions options) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.is_open()) {
    return error(StatusCode::kResourceExhausted, "epoll_create1: %s", std::strerror(errno));
  }
  return Supervisor(options, std::move(epoll));
}

Supervisor::Supervisor(RestartOptions options, UniqueFd epoll)
    : options_(options), epoll_(std::move(epoll)) {}
Supervisor::Supervisor(Supervisor&&) noexcept = default;
Supervisor& Supervisor::operator=(Supervisor&&) noexcept = default;
Supervisor::~Supervisor() = default;

std::size_t Supervisor::add(std::string name, ChildOptions options, Limits limits) {
  RestartOptions restart = options_;
  restart.backoff_max = std::min(restart.backoff_max, limits.backoff_max);
  options.env.push_back("TRIREME_LOG_FORMAT=" + log_format());
  options.env.push_back(std::string(kSupervisedVariable) + "=1");
  const std::size_t index = children_.size();
  children_.push_back(std::make_unique<Child>(index, std::move(name), std::move(options),
                                              limits.silence_max, restart));
  return index;
}

int Supervisor::fd() const { return epoll_.get(); }

Instant Supervisor::wakeup() const {
  Instant first = Instant::max();
  for (const auto& child : children_) {
    if (child->is_wanted && child->is_new)
      return Instant{};  // Long past; min() would overflow a difference.
    if (child->watch) first = std::min(first, look_at_);
    if (const auto at = child->policy.restart_at()) first = std::min(first, *at);
  }
  return first;
}

std::vector<Death> Supervisor::tick(Instant now) {
  std::vector<Death> deaths;
  look_at_pulses(now);
  for (const auto& child : children_) {
    if (child->process) {
      child->forward_lines();
      const auto exit = child->process->poll_exit();
      if (!exit) continue;
      deaths.push_back(bury(*child, now, child->process->pid(), exit->text()));
      deaths.back().status = *exit;
    } else if (child->is_wanted && (child->is_new || child->policy.is_due(now))) {
      start(*child, now, deaths);
    }
  }
  return deaths;
}

void Supervisor::look_at_pulses(Instant now) {
  if (now < look_at_) return;
  look_at_ = now + PulseWatch::kInterval;
  for (const auto& child : children_) {
    if (!child->process || !child->watch) continue;
    PulseSighting seen{.beats = child->pulse->beats()};
    if (!child->watch->is_news(seen.beats)) {
      const auto pid = static_cast<uint32_t>(child->process->pid());
      if (const auto process = read_process_state(pid)) seen.process = *process;
      seen.is_traced = is_traced(pid);
    }
    if (!child->watch->look(seen, now)) continue;
    child->killed_for = child->watch->describe(seen);
    child->watch.reset();
    const std::string stacks = log_stacks(static_cast<uint32_t>(child->process->pid()));
    if (!stacks.empty()) child->killed_for += "; its stacks: " + stacks;
    child->process->send_signal(SIGKILL);
  }
}

// The page is there before the first life and serves all.
Status Supervisor::give_pulse(Child& child, ChildOptions& options) {
  if (!child.pulse) {
    TRIREME_ASSIGN_OR_RETURN(child.pulse, PulsePage::create());
  }
  child.pulse->clear();
  options.inherited_fds.push_back(child.pulse->fd());
  options.env.push_back(absl::StrFormat("%s=%d", kPulseVariable, child.pulse->fd()));
  return absl::OkStatus();
}

void Supervisor::start(Child& child, Instant now, std::vector<Death>& deaths) {
  child.is_new = false;
  child.policy.on_started(now);
  child.last_word = {};
  child.killed_for.clear();
  ChildOptions options = child.options;
  auto pipe = make_error_pipe();
  if (pipe.ok()) options.stderr_fd = pipe->write_end.get();
  Status prepared = pipe.status();
  if (prepared.ok() && silence_max_) prepared = give_pulse(child, options);
  auto process = prepared.ok() ? ChildProcess::spawn(options) : StatusOr<ChildProcess>(prepared);
  if (!process.ok()) {
    deaths.push_back(bury(child, now, -1, std::string(process.status().message())));
    return;
  }
  child.process = *std::move(process);
  child.errors = std::move(pipe->read_end);
  if (silence_max_) {
    child.watch.emplace(std::min(*silence_max_, child.silence_max)).on_started(now);
  }
  for (const int fd : {child.process->pidfd(), child.errors.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    const int rc = ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
    TRIREME_CHECK(rc == 0, "both are new descriptors that can be polled");
  }
}

Death Supervisor::bury(Child& child, Instant now, pid_t pid, std::string reason) {
  if (child.errors.is_open()) child.close_errors();
  child.process.reset();
  child.watch.reset();
  if (!child.killed_for.empty()) reason = child.killed_for;
  if (!child.last_word.ok()) reason = std::string(child.last_word.message());
  Death death{.child = child.index,
              .pid = pid,
              .reason = std::move(reason),
              .is_for_a_person = is_for_a_person(child.last_word.code())};
  if (!child.is_wanted) {
    child.policy.on_stopped();
    return death;
  }
  child.policy.on_exited(now, death.reason);
  death.deaths_in_a_row = child.policy.deaths_in_a_row();
  death.restarts = child.policy.restarts_total() + 1;
  if (const auto at = child.policy.restart_at()) death.restart_in = *at - now;
  return death;
}

void Supervisor::stop(std::size_t child, int signal) {
  Child& stopped = *children_[child];
  stopped.is_wanted = false;
  stopped.watch.reset();
  if (stopped.process) {
    stopped.process->send_signal(signal);
  } else {
    stopped.policy.on_stopped();
  }
}

bool Supervisor::is_running(std::size_t child) const {
  return children_[child]->process.has_value();
}

std::size_t Supervisor::running_count() const {
  const auto runs = [](const auto& child) { return child->process.has_value(); };
  return static_cast<std::size_t>(std::count_if(children_.begin(), children_.end(), runs));
}

const std::string& Supervisor::name(std::size_t child) const { return children_[child]->name; }

pid_t Supervisor::pid(std::size_t child) const {
  const auto& process = children_[child]->process;
  return process ? process->pid() : -1;
}

}  // namespace trireme::process
