#include "api_server/openai/front_end_counters.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "api_server/counters/counter_board.h"

namespace trireme::api {
namespace {

// Calls visit(number of each) for every number that is added up, in the order of the words.
template <typename Visit, typename... Counters>
void each_count(Visit visit, Counters&... of) {
  visit(of.metrics.prompt_tokens_total...);
  visit(of.metrics.generation_tokens_total...);
  visit(of.metrics.prompt_tokens_cached_total...);
  visit(of.http.connections_total...);
  visit(of.http.connections_refused...);
  visit(of.http.requests_total...);
  visit(of.http.requests_malformed...);
  visit(of.http.requests_timed_out...);
  visit(of.http.disconnects...);
  visit(of.engine_client.undecodable...);
  visit(of.engine_client.stale...);
  visit(of.engine_client.aborted...);
  visit(of.engine_client.engine_full...);
  visit(of.engine_client.step_tokens.sum...);
  visit(of.handshakes_failed...);
  visit(of.refused_by_requests...);
  visit(of.refused_by_tokens...);
  const auto& first = std::get<0>(std::tie(of...));
  for (std::size_t i = 0; i < first.metrics.finished.size(); ++i) {
    visit(of.metrics.finished[i]...);
  }
  for (std::size_t i = 0; i < first.engine_client.step_tokens.counts.size(); ++i) {
    visit(of.engine_client.step_tokens.counts[i]...);
  }
  for (std::size_t i = 0; i < first.metrics.replies.size(); ++i) visit(of.metrics.replies[i]...);
  for (const auto histogram : Metrics::kHistograms) {
    Histogram::each_number(visit, (of.metrics.*histogram)...);
  }
}

template <typename Visit, typename... Counters>
void each_gauge(Visit visit, Counters&... of) {
  visit(of.http.connections_open...);
  visit(of.requests_open...);
  visit(of.requests_open_max...);
}

template <typename Visit, typename Row>
void each_of_engine(Visit visit, Row& row) {
  visit(row.incarnation.value);
  visit(row.routed);
  visit(row.lost);
  const auto visit_all = [&](auto&... field) { (visit(field), ...); };
  std::apply(visit_all, row.stats.fields(row.stats));
  std::apply(visit_all, row.shm.steps.fields(row.shm.steps));
  std::apply(visit_all, row.shm.results.fields(row.shm.results));
}

template <typename Struct>
constexpr std::size_t kFields =
    std::tuple_size_v<decltype(Struct::fields(std::declval<Struct&>()))>;
constexpr std::size_t kNotCounted = 2;  // EngineStats::stall and standing.
constexpr std::size_t kEngineWords = 3 + kFields<wire::EngineStats> - kNotCounted +
                                     wire::kDraftTokensMax - 1 + 2 * kFields<wire::ShmQueueStats>;
static_assert(kEngineWords <= CounterBoard::kWordsPerEngine);

struct Writer {
  std::vector<uint64_t>& words;
  void operator()(std::floating_point auto number) {
    words.push_back(std::bit_cast<uint64_t>(static_cast<double>(number)));
  }
  void operator()(std::integral auto number) { words.push_back(number); }
  void operator()(const std::string&) {}  // What is for people is not counted.
  void operator()(const wire::EngineStanding&) {}
  template <typename Tag, typename Rep>
  void operator()(const Id<Tag, Rep>& id) {
    words.push_back(id.value);
  }
  template <std::size_t size>
  void operator()(const std::array<uint64_t, size>& numbers) {
    words.insert(words.end(), numbers.begin(), numbers.end());
  }
};

struct Reader {
  std::span<const uint64_t>& words;
  uint64_t next() {
    if (words.empty()) return 0;
    const uint64_t word = words.front();
    words = words.subspan(1);
    return word;
  }
  template <std::floating_point T>
  void operator()(T& number) {
    number = static_cast<T>(std::bit_cast<double>(next()));
  }
  template <std::integral T>
  void operator()(T& number) {
    number = static_cast<T>(next());
  }
  template <typename Tag, typename Rep>
  void operator()(Id<Tag, Rep>& id) {
    id.value = static_cast<Rep>(next());
  }
  template <std::size_t size>
  void operator()(std::array<uint64_t, size>& numbers) {
    for (uint64_t& number : numbers) number = next();
  }
  void operator()(std::string&) {}
  void operator()(wire::EngineStanding&) {}
};

constexpr auto kAdd = [](auto& sum, const auto& more) { sum += more; };

}  // namespace

FrontEndCounters FrontEndCounters::of(const Metrics& metrics, const EngineClient& client,
                                      const HttpCounters* http) {
  FrontEndCounters out{.metrics = metrics, .engine_client = client.counters()};
  if (http != nullptr) out.http = *http;
  out.handshakes_failed = client.handshakes_failed_total();
  out.refused_by_requests = client.admission().refused_by_requests();
  out.refused_by_tokens = client.admission().refused_by_tokens();
  out.requests_open = client.requests_open();
  out.requests_open_max = client.admission().limits().requests_max;
  const auto& engines = client.engines();
  const auto& entries = client.balancer().entries();
  out.engines.resize(engines.size());
  for (std::size_t rank = 0; rank < engines.size(); ++rank) {
    EngineRow& row = out.engines[rank];
    row.incarnation = engines[rank].incarnation;
    row.routed = engines[rank].routed;
    row.lost = engines[rank].lost;
    row.shm = engines[rank].shm;
    if (rank < entries.size()) row.stats = entries[rank].stats;
  }
  return out;
}

FrontEndCounters FrontEndCounters::from_words(std::span<const uint64_t> words) {
  FrontEndCounters out;
  Reader reader{words};
  each_count(reader, out);
  each_gauge(reader, out);
  out.engines.resize(words.size() / kEngineWords);
  for (EngineRow& row : out.engines) each_of_engine(reader, row);
  return out;
}

std::vector<uint64_t> FrontEndCounters::to_words(std::size_t words_max) const {
  std::vector<uint64_t> words;
  Writer writer{words};
  each_count(writer, *this);
  each_gauge(writer, *this);
  for (const EngineRow& row : engines) {
    if (words.size() + kEngineWords > words_max) break;
    each_of_engine(writer, row);
  }
  return words;
}

void FrontEndCounters::add(const FrontEndCounters& other, bool is_alive) {
  each_count(kAdd, *this, other);
  if (is_alive) each_gauge(kAdd, *this, other);
  if (other.engines.size() > engines.size()) engines.resize(other.engines.size());
  for (std::size_t rank = 0; rank < other.engines.size(); ++rank) {
    EngineRow& row = engines[rank];
    const EngineRow& more = other.engines[rank];
    row.routed += more.routed;
    // Each front end sees the same losses, a life of its own only those of its time.
    row.lost = is_alive ? std::max(row.lost, more.lost) : row.lost + more.lost;
    if (row.incarnation != more.incarnation) continue;
    if (row.stats.step < more.stats.step) row.stats = more.stats;
    if (row.shm.steps.messages < more.shm.steps.messages) row.shm = more.shm;
  }
}

}  // namespace trireme::api
