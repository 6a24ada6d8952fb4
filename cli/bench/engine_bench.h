// EngineBench: what `bench latency` and `bench throughput` share: a command line of own flags and
// of `trireme serve`'s, a server of our own that lives as long as the measurement, and requests to
// it that are answered whole.
// Threads: the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/bench/bench_command.h"
#include "cli/bench/flag_set.h"
#include "cli/bench/http_exchange.h"
#include "cli/bench/load_run.h"
#include "cli/bench/local_server.h"
#include "cli/bench/request_body.h"
#include "cli/bench/request_plan.h"
#include "common/options/serve_options.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::bench {

struct EngineCommand {
  std::vector<const char*> flags;  // For the server.
  ServeOptions serve;              // The same, read.
};

// Takes the command's own flags out; the others must be ones that `trireme serve` takes. The error
// names the flag and the value.
[[nodiscard]] StatusOr<EngineCommand> parse_engine_command(std::span<const Flag> own, Words words);

struct EngineLoad {
  PlanOptions plan;           // Prompts and lengths of all requests.
  uint32_t choices = 1;       // To each.
  uint64_t requests_max = 0;  // So many may be open at once.
  bool is_chat = false;
};

// Prompts [begin, begin + batch_size * batch_count) of the plan, batch_size in each request: one,
// where it is a chat.
struct EngineRun {
  const char* what = "requests";
  std::size_t begin = 0;
  std::size_t batch_size = 1;
  std::size_t batch_count = 0;
  std::optional<uint32_t> max_concurrency;
  bool is_prequeued = false;
};

class EngineBench {
 public:
  [[nodiscard]] static StatusOr<EngineBench> start(const EngineCommand& command,
                                                   const EngineLoad& load, StopSignal& stop);

  [[nodiscard]] StatusOr<LoadOutcome> run(const EngineRun& run);
  // The error: it did not end cleanly.
  [[nodiscard]] Status stop_server() { return server_.stop(); }

 private:
  EngineBench(LocalServer server, const EngineLoad& load, RequestBody body, StopSignal& stop)
      : server_(std::move(server)),
        plan_(load.plan),
        body_(std::move(body)),
        is_chat_(load.is_chat),
        stop_(&stop) {}
  [[nodiscard]] std::string request(std::size_t begin, std::size_t batch_size) const;

  LocalServer server_;
  RequestPlan plan_;
  RequestBody body_;
  bool is_chat_;
  StopSignal* stop_;
  Headers headers_;
  uint32_t vocabulary_ = 0;
};

// Whether --output-json can be written, before anything is measured for it.
[[nodiscard]] Status check_output(const std::string& path);
// Writes `json` to the file of --output-json; nothing where none is given.
[[nodiscard]] Status write_output(const std::string& path, const std::string& json);

// The whole of a command behind its flags: Ctrl-C, `measure`, the exit code, one line for an error.
// `measure` gives whether it was interrupted.
int run_measurement(const char* name, const Status& flags,
                    const std::function<StatusOr<bool>(StopSignal&)>& measure);

}  // namespace trireme::bench
