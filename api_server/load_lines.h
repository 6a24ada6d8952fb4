// LoadLines: the periodic lines about the load of the engines, as vLLM words them.
//
//   Engine 000: Avg prompt throughput: 21.4 tokens/s, Avg generation throughput: 310.0 tokens/s,
//   Running: 4 reqs, Waiting: 0 reqs, GPU KV cache usage: 1.2%, Prefix cache hit rate: 40.0%
//
// One for each engine, or one for all ("2 Engines Aggregated: ..."), every kInterval, while there
// is load and once after it. Pure: time and the engines' own counts come in. Threads: one owner.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "api_server/openai/front_end_counters.h"
#include "common/clock.h"

namespace trireme::api {

class LoadLines {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(10);

  LoadLines(bool is_aggregated, Instant now) : is_aggregated_(is_aggregated), told_at_(now) {}

  // Ask often: what a new life of an engine did before it is seen first is not counted. `engines`
  // by rank.
  [[nodiscard]] std::vector<std::string> next(std::span<const FrontEndCounters::EngineRow> engines,
                                              Instant now);

 private:
  struct Known {
    Incarnation incarnation;
    wire::EngineStats told;  // At the last interval's end.
  };
  struct Load {
    uint64_t prompt_tokens = 0;
    uint64_t generation_tokens = 0;
    uint64_t running = 0;
    uint64_t waiting = 0;
    double kv_usage = 0;
    uint64_t prefix_queries = 0;  // Of the engine's life.
    uint64_t prefix_hits = 0;
    uint64_t store_queries = 0;  // Of the offloaded blocks; likewise.
    uint64_t store_hits = 0;

    void add(const Load& other);
    [[nodiscard]] bool is_idle() const {
      return prompt_tokens + generation_tokens + running + waiting == 0;
    }
  };

  void meet(std::span<const FrontEndCounters::EngineRow> engines);
  [[nodiscard]] static Load between(const wire::EngineStats& before, const wire::EngineStats& now);
  [[nodiscard]] static std::string line(const Load& load, double seconds);

  const bool is_aggregated_;
  Instant told_at_;
  std::vector<Known> known_;
  std::vector<bool> was_busy_;  // By rank; of all, one.
};

}  // namespace trireme::api
