#include "cli/top/cluster_facts.h"

#include <simdjson.h>

#include <utility>

namespace trireme::top {
namespace {

using Object = simdjson::dom::object;
using simdjson::SUCCESS;

constexpr std::size_t kShownMax = 100;  // Of an answer that is none.

// What is missing or of another type is left as it is.
template <typename Scalar>
void read(const Object& from, const char* name, Scalar& into) {
  Scalar value{};
  if (from.at_key(name).get(value) == SUCCESS) into = value;
}
void read(const Object& from, const char* name, std::string& into) {
  std::string_view text;
  if (from.at_key(name).get(text) == SUCCESS) into = text;
}
void read(const Object& from, const char* name, uint32_t& into) {
  uint64_t number = 0;
  if (from.at_key(name).get(number) == SUCCESS && number <= UINT32_MAX) {
    into = static_cast<uint32_t>(number);
  }
}
void read(const Object& from, const char* name, std::optional<double>& into) {
  double number = 0;
  if (from.at_key(name).get(number) == SUCCESS) into = number;
}
void read(const Object& from, const char* name, std::vector<uint32_t>& into) {
  simdjson::dom::array list;
  if (from.at_key(name).get(list) != SUCCESS) return;
  for (const auto item : list) {
    uint64_t number = 0;
    if (item.get(number) == SUCCESS) into.push_back(static_cast<uint32_t>(number));
  }
}

std::optional<StallFacts> read_stall(const Object& from) {
  Object object;
  if (from.at_key("stall").get(object) != SUCCESS) return std::nullopt;
  StallFacts stall;
  read(object, "phase", stall.phase);
  read(object, "step", stall.step);
  read(object, "awaits_ranks", stall.awaits_ranks);
  read(object, "worker_pid", stall.worker_pid);
  read(object, "seconds", stall.seconds);
  read(object, "text", stall.text);
  return stall;
}

LoadFacts read_load(const Object& from) {
  LoadFacts load;
  read(from, "heard_seconds", load.heard_seconds);
  read(from, "running", load.running);
  read(from, "waiting", load.waiting);
  read(from, "kv_usage", load.kv_usage);
  read(from, "tokens_per_second", load.tokens_per_second);
  read(from, "paused", load.paused);
  Object wave;
  if (from.at_key("wave").get(wave) == SUCCESS) {
    load.wave.emplace();
    read(wave, "number", load.wave->number);
    read(wave, "asleep", load.wave->is_asleep);
  }
  load.stall = read_stall(from);
  return load;
}

MemberFacts read_member(const Object& from, const char* index_name) {
  MemberFacts member;
  read(from, index_name, member.index);
  read(from, "node", member.node);
  read(from, "pid", member.pid);
  read(from, "state", member.state);
  read(from, "restarts", member.restarts);
  read(from, "reason", member.reason);
  return member;
}

EngineFacts read_engine(const Object& from) {
  EngineFacts engine;
  engine.place = read_member(from, "rank");
  read(from, "state_seconds", engine.state_seconds);
  read(from, "served", engine.is_served);
  bool is_connected = false;
  read(from, "connected", is_connected);
  if (is_connected) engine.load = read_load(from);
  return engine;
}

std::vector<MemberFacts> read_members(const Object& from, const char* name) {
  std::vector<MemberFacts> members;
  simdjson::dom::array list;
  if (from.at_key(name).get(list) != SUCCESS) return members;
  for (const auto item : list) {
    Object object;
    if (item.get(object) == SUCCESS) members.push_back(read_member(object, "index"));
  }
  return members;
}

}  // namespace

StatusOr<ClusterFacts> read_cluster(std::string_view json) {
  simdjson::dom::parser parser;
  Object page;
  simdjson::dom::array engines;
  if (parser.parse(json.data(), json.size()).get(page) != SUCCESS ||
      page.at_key("engines").get(engines) != SUCCESS) {
    return error(StatusCode::kFailedPrecondition, "this is no list of engines: %s",
                 json.substr(0, kShownMax));
  }
  ClusterFacts cluster;
  read(page, "version", cluster.version);
  read(page, "epoch", cluster.epoch);
  read(page, "coordinator_heard", cluster.is_coordinator_heard);
  read(page, "draining", cluster.is_draining);
  for (const auto item : engines) {
    Object object;
    if (item.get(object) == SUCCESS) cluster.engines.push_back(read_engine(object));
  }
  cluster.front_ends = read_members(page, "front_ends");
  cluster.node_agents = read_members(page, "node_agents");
  return cluster;
}

}  // namespace trireme::top
