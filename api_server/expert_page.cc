#include "api_server/expert_page.h"

#include <algorithm>
#include <span>
#include <vector>

#include "common/status.h"

namespace trireme::api {
namespace {

// As vLLM's EPLB log has them: of the mean worker and of the busiest one.
struct Balance {
  double avg_tokens = 0;
  uint64_t max_tokens = 0;
};

struct Worker {
  uint32_t rank = 0;
  const wire::ExpertTable* table = nullptr;
};

// All that have the same layers.
struct Stage {
  std::vector<Worker> workers;
  std::vector<uint64_t> rows;                 // [layer][expert]
  std::vector<std::vector<uint32_t>> places;  // Likewise; none: nobody has said.

  [[nodiscard]] const wire::ExpertTable& shape() const { return *workers.front().table; }
  [[nodiscard]] std::size_t layer_count() const { return shape().computed.size(); }
};

bool is_whole(const wire::ExpertTable& table) {
  return table.expert_count > 0 &&
         table.routed.size() == table.computed.size() * table.expert_count;
}

bool is_alike(const wire::ExpertTable& a, const wire::ExpertTable& b) {
  return a.expert_count == b.expert_count && a.computed.size() == b.computed.size();
}

// None, where the lists do not fit together.
std::vector<std::vector<uint32_t>> places_of(const wire::ExpertTable& table) {
  std::vector<std::vector<uint32_t>> places;
  if (table.replica_counts.size() != table.routed.size()) return places;
  std::span<const uint32_t> left = table.replica_places;
  for (const uint32_t count : table.replica_counts) {
    if (count > left.size()) return {};
    places.emplace_back(left.begin(), left.begin() + count);
    left = left.subspan(count);
  }
  return places;
}

void add(uint32_t rank, const wire::ExpertTable& table, Stage& stage) {
  if (!stage.workers.empty() && !is_alike(stage.shape(), table)) return;
  stage.workers.push_back({rank, &table});
  stage.rows.resize(table.routed.size());
  for (std::size_t i = 0; i < table.routed.size(); ++i) stage.rows[i] += table.routed[i];
  if (stage.places.empty()) stage.places = places_of(table);
}

std::map<uint32_t, Stage> stages_of(const std::map<uint32_t, wire::UtilityReply>& engines) {
  std::map<uint32_t, Stage> stages;
  for (const auto& [rank, reply] : engines) {
    for (const wire::ExpertTable& table : reply.expert_tables) {
      if (is_whole(table)) add(rank, table, stages[table.stage]);
    }
  }
  return stages;
}

Balance balance_of(const Stage& stage, std::size_t layer) {
  uint64_t sum = 0;
  Balance balance;
  for (const Worker& worker : stage.workers) {
    const uint64_t rows = worker.table->computed[layer];
    sum += rows;
    balance.max_tokens = std::max(balance.max_tokens, rows);
  }
  balance.avg_tokens = static_cast<double>(sum) / static_cast<double>(stage.workers.size());
  return balance;
}

std::string text_of(const Balance& balance) {
  const auto most = static_cast<double>(balance.max_tokens);
  const std::string balancedness =
      balance.max_tokens == 0 ? "null" : absl::StrFormat("%.4f", balance.avg_tokens / most);
  return absl::StrFormat(R"("balancedness":%s,"avg_tokens":%.2f,"max_tokens":%u)", balancedness,
                         balance.avg_tokens, balance.max_tokens);
}

template <typename Number>
std::string list_of(std::span<const Number> numbers) {
  std::string text = "[";
  for (const Number number : numbers) {
    if (text.size() > 1) text += ',';
    text += std::to_string(number);
  }
  return text + "]";
}

void append_layer(const Stage& stage, std::size_t layer, std::string& out) {
  const std::size_t count = stage.shape().expert_count;
  out += out.ends_with('[') ? "{" : ",{";
  out += text_of(balance_of(stage, layer));
  out += R"(,"rows":)" + list_of(std::span(stage.rows).subspan(layer * count, count));
  out += R"(,"places":[)";
  for (std::size_t i = layer * count; i < (layer + 1) * count && !stage.places.empty(); ++i) {
    if (!out.ends_with('[')) out += ',';
    out += list_of(std::span<const uint32_t>(stage.places[i]));
  }
  out += "]}";
}

void append_worker(const Worker& worker, std::string& out) {
  out += out.ends_with('[') ? "{" : ",{";
  out += absl::StrFormat(R"("rank":%u,"stage":%u,"place":%u,"rows":)", worker.rank,
                         worker.table->stage, worker.table->place);
  out += list_of(std::span(worker.table->computed)) + "}";
}

}  // namespace

std::string render_experts(const std::map<uint32_t, wire::UtilityReply>& engines) {
  const std::map<uint32_t, Stage> stages = stages_of(engines);
  std::string layers = R"("layers":[)";
  std::string workers = R"("workers":[)";
  Balance all;
  for (const auto& [number, stage] : stages) {
    for (std::size_t layer = 0; layer < stage.layer_count(); ++layer) {
      const Balance balance = balance_of(stage, layer);
      all.avg_tokens += balance.avg_tokens;
      all.max_tokens += balance.max_tokens;
      append_layer(stage, layer, layers);
    }
    for (const Worker& worker : stage.workers) append_worker(worker, workers);
  }
  const uint32_t window = stages.empty() ? 0 : stages.begin()->second.shape().window_size;
  return absl::StrFormat(R"({"window_size":%u,%s,)", window, text_of(all)) + layers + "]," +
         workers + "]}";
}

}  // namespace trireme::api
