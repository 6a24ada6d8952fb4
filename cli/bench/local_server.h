// LocalServer: the api-server beside this program, started for one measurement on a free port of
// loopback, with the flags of `trireme serve` that the user gave.
//
// start() returns when it is ready to serve; meanwhile its stages are the progress. Its log goes to
// a file that is removed with a clean end; when it fails to start, its reason is the error.
// Destruction stops it: SIGTERM, then SIGKILL. It never outlives us (see child_process.h).
// Threads: start() and stop() on the main thread.
#pragma once

#include <string>
#include <vector>

#include "cli/bench/flag_set.h"
#include "cli/bench/server_url.h"
#include "common/process/child_process.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::bench {

class LocalServer {
 public:
  // `flags`: as given, already checked. kCancelled: stopped by a signal. `is_quiet`: no progress.
  [[nodiscard]] static StatusOr<LocalServer> start(Words flags, bool is_quiet, StopSignal& stop);

  LocalServer(LocalServer&&) = default;
  LocalServer& operator=(LocalServer&&) = delete;
  ~LocalServer();

  [[nodiscard]] const ServerUrl& url() const { return url_; }
  // What to add to an error of a request: how the server ended and where its log is, if it did end.
  [[nodiscard]] Status annotate_death(const Status& status);
  // The error: it did not end cleanly.
  [[nodiscard]] Status stop();

 private:
  LocalServer(process::ChildProcess child, UniqueFd output, std::string log_path);
  Status wait_ready(bool is_quiet, StopSignal& stop);
  // Reads what it printed; true: it is ready.
  bool take_output(bool& has_ended);
  [[nodiscard]] Status death(const std::string& when);

  process::ChildProcess child_;
  UniqueFd output_;
  std::string log_path_;
  std::string lines_;
  std::string stage_;  // The last line that it printed.
  ServerUrl url_;
  bool is_running_ = true;
};

}  // namespace trireme::bench
