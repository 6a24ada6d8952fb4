// run_load: sends the requests of a plan at their times, at most so many at once, and gives what
// became of each.
//
// One thread, one io_context; a coroutine per open request, connections reused last-in first-out.
// A request whose time has come while all places are taken waits in the order of arrival; that wait
// is its queue_time. SIGINT or SIGTERM ends the run: what is open stays kUnfinished.
// Prequeued, every request goes out without its last byte on a connection of its own, and the run
// begins when all have: what it measures is the server alone.
// A fault of one request is in its sample; the Status is for what makes the whole run impossible.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench/sample.h"
#include "cli/bench/server_url.h"
#include "common/clock.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::bench {

class Progress;

struct LoadJob {
  std::vector<Duration> arrivals;                            // After the start, ascending.
  std::function<std::string(std::size_t index)> request_of;  // The whole HTTP request.
  std::optional<uint32_t> max_concurrency;                   // None: no limit.
  bool is_prequeued = false;  // All arrive at once, and there is no limit.
};

struct LoadOutcome {
  std::vector<Sample> samples;  // In the order of the job.
  Instant begin{};
  Duration duration{};
  Duration client_cpu{};  // Used by this process meanwhile.
  bool was_interrupted = false;
};

[[nodiscard]] StatusOr<LoadOutcome> run_load(const ServerUrl& url, const LoadJob& job,
                                             Progress& progress, StopSignal& stop);

}  // namespace trireme::bench
