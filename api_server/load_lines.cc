#include "api_server/load_lines.h"

#include <algorithm>

namespace trireme::api {

std::vector<std::string> LoadLines::next(std::span<const FrontEndCounters::EngineRow> engines,
                                         Instant now) {
  meet(engines);
  if (now - told_at_ < kInterval) return {};
  const double seconds = std::chrono::duration<double>(now - told_at_).count();
  told_at_ = now;
  std::vector<std::string> lines;
  const auto tell = [&](std::size_t index, const std::string& who, const Load& load) {
    if (!load.is_idle() || was_busy_[index]) lines.push_back(who + line(load, seconds));
    was_busy_[index] = !load.is_idle();
  };
  Load all;
  uint32_t count = 0;
  for (std::size_t rank = 0; rank < engines.size(); ++rank) {
    if (engines[rank].incarnation == Incarnation{}) continue;
    const Load load = between(known_[rank].told, engines[rank].stats);
    known_[rank].told = engines[rank].stats;
    all.add(load);
    ++count;
    if (!is_aggregated_) tell(rank, absl::StrFormat("Engine %03u: ", rank), load);
  }
  if (!is_aggregated_ || count == 0) return lines;
  all.kv_usage /= count;
  tell(0, absl::StrFormat("%u Engines Aggregated: ", count), all);
  return lines;
}

void LoadLines::meet(std::span<const FrontEndCounters::EngineRow> engines) {
  known_.resize(std::max(known_.size(), engines.size()));
  was_busy_.resize(known_.size());
  for (std::size_t rank = 0; rank < engines.size(); ++rank) {
    if (known_[rank].incarnation == engines[rank].incarnation) continue;
    known_[rank] = {.incarnation = engines[rank].incarnation, .told = engines[rank].stats};
  }
}

LoadLines::Load LoadLines::between(const wire::EngineStats& before, const wire::EngineStats& now) {
  return {.prompt_tokens = now.prompt_tokens - std::min(before.prompt_tokens, now.prompt_tokens),
          .generation_tokens =
              now.generation_tokens - std::min(before.generation_tokens, now.generation_tokens),
          .running = now.running,
          .waiting = now.waiting,
          .kv_usage = now.kv_usage,
          .prefix_queries = now.prefix_query_tokens,
          .prefix_hits = now.prefix_hit_tokens,
          .store_queries = now.store_query_tokens,
          .store_hits = now.store_hit_tokens};
}

void LoadLines::Load::add(const Load& other) {
  prompt_tokens += other.prompt_tokens;
  generation_tokens += other.generation_tokens;
  running += other.running;
  waiting += other.waiting;
  kv_usage += other.kv_usage;
  prefix_queries += other.prefix_queries;
  prefix_hits += other.prefix_hits;
  store_queries += other.store_queries;
  store_hits += other.store_hits;
}

std::string LoadLines::line(const Load& load, double seconds) {
  const auto rate = [](uint64_t hits, uint64_t queries) {
    return queries > 0 ? 100 * static_cast<double>(hits) / static_cast<double>(queries) : 0;
  };
  const std::string of_store = load.store_queries > 0
                                   ? absl::StrFormat(", External prefix cache hit rate: %.1f%%",
                                                     rate(load.store_hits, load.store_queries))
                                   : "";
  return absl::StrFormat(
      "Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f tokens/s, "
      "Running: %u reqs, Waiting: %u reqs, GPU KV cache usage: %.1f%%, "
      "Prefix cache hit rate: %.1f%%%s",
      static_cast<double>(load.prompt_tokens) / seconds,
      static_cast<double>(load.generation_tokens) / seconds, load.running, load.waiting,
      100 * load.kv_usage, rate(load.prefix_hits, load.prefix_queries), of_store);
}

}  // namespace trireme::api
