// Supervisor: the children of one parent: starts them, reads their last word, starts them again.
//
//   const std::size_t rank = supervisor.add("rank 2", {.argv = ...});  // starts at the next tick
//   loop: wait for supervisor.fd(), at most until supervisor.wakeup()
//         for (const Death& death : supervisor.tick(now())) ...        // it restarts by itself
//   supervisor.stop(rank, SIGTERM);                                    // no restart from here on
//
// A child's standard error goes through us, line by line, so that the reason of a death can be
// told: the last word (last_word.h)
// is taken out, the rest passed on. The pipe never blocks the child: lines beyond what we read in
// time are lost. Where our own log is for a terminal, the children's is too (TRIREME_LOG_FORMAT).
//
// With expect_pulse() a child whose main loop does not go on is killed and started again: it shares
// a page with us (pulse.h) that we look at each second (pulse_watch.h); the death's reason says so.
//
// Threads: one owner, the main thread (see child_process.h). Bounds: kLineBytesMax of a child's
// unfinished line kept. Restarts follow RestartPolicy, without end: giving up is the owner's
// decision (Death says how often in a row). Destruction kills and reaps every child.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/process/child_process.h"
#include "common/process/restart_policy.h"
#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::process {

struct Death {
  std::size_t child = 0;
  pid_t pid = -1;      // -1: it could not be started.
  ExitStatus status;   // Of no meaning then.
  std::string reason;  // Its last word (last_word.h); without one as ExitStatus::text() says.
  bool is_for_a_person = false;  // By its last word: the next start would fail alike.
  uint32_t deaths_in_a_row = 0;
  uint64_t restarts = 0;               // Total, the one to come included.
  std::optional<Duration> restart_in;  // Nothing: it was told to stop.
};

class Supervisor {
 public:
  static constexpr std::size_t kLineBytesMax = 4096;

  [[nodiscard]] static StatusOr<Supervisor> create(RestartOptions options);
  Supervisor(Supervisor&&) noexcept;
  Supervisor& operator=(Supervisor&&) noexcept;
  ~Supervisor();

  // From now on: who shows no sign of life for so long is killed. Not who was told to stop.
  void expect_pulse(Duration silence_max) { silence_max_ = silence_max; }
  // Of one child, where they are less than what all have.
  struct Limits {
    Duration silence_max = Duration::max();  // Without a sign of life.
    Duration backoff_max = Duration::max();  // Before it is started again.
  };
  // Its stderr_fd and the log format are set here. The index of the child.
  std::size_t add(std::string name, ChildOptions options, Limits limits);
  std::size_t add(std::string name, ChildOptions options) {
    return add(std::move(name), std::move(options), Limits());
  }
  // Readable when tick() has something to do before wakeup().
  [[nodiscard]] int fd() const;
  [[nodiscard]] Instant wakeup() const;
  [[nodiscard]] std::vector<Death> tick(Instant now);

  // Sends the signal and restarts no more; a child that waits for its restart is done.
  void stop(std::size_t child, int signal);
  [[nodiscard]] bool is_running(std::size_t child) const;
  [[nodiscard]] std::size_t running_count() const;
  [[nodiscard]] std::size_t child_count() const { return children_.size(); }
  [[nodiscard]] const std::string& name(std::size_t child) const;
  // -1 while it does not run.
  [[nodiscard]] pid_t pid(std::size_t child) const;

 private:
  struct Child;
  Supervisor(RestartOptions options, UniqueFd epoll);
  void start(Child& child, Instant now, std::vector<Death>& deaths);
  [[nodiscard]] static Status give_pulse(Child& child, ChildOptions& options);
  void look_at_pulses(Instant now);
  [[nodiscard]] Death bury(Child& child, Instant now, pid_t pid, std::string reason);

  RestartOptions options_;
  std::optional<Duration> silence_max_;
  Instant look_at_{};
  UniqueFd epoll_;
  std::vector<std::unique_ptr<Child>> children_;
};

}  // namespace trireme::process
