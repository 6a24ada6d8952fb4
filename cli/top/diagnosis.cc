#include "cli/top/diagnosis.h"

#include <algorithm>
#include <map>
#include <utility>

namespace trireme::top {
namespace {

constexpr std::size_t kRanksNamedMax = 8;

// By awaited rank, who waits for it.
using Waiters = std::map<uint32_t, std::vector<uint32_t>>;

// "rank 3", "ranks 1, 2 and 5", "ranks 0, 1, ... and 1015 more"
std::string ranks_text(const std::vector<uint32_t>& ranks) {
  if (ranks.size() == 1) return absl::StrFormat("rank %u", ranks.front());
  const std::size_t named = std::min(ranks.size(), kRanksNamedMax);
  std::string text = "ranks ";
  for (std::size_t i = 0; i < named; ++i) {
    const bool is_last = i + 1 == ranks.size();
    if (i > 0) text += is_last ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  if (named < ranks.size()) text += absl::StrFormat(" and %u more", ranks.size() - named);
  return text;
}

// "rank 2 on node b (pid 4711)"
std::string name_of(const char* kind, const MemberFacts& member) {
  std::string text = absl::StrFormat("%s %u", kind, member.index);
  if (!member.node.empty()) text += " on node " + member.node;
  if (member.pid > 0) text += absl::StrFormat(" (pid %u)", member.pid);
  return text;
}

std::string since(const std::optional<double>& seconds) {
  return seconds ? absl::StrFormat(" since %.1f s", *seconds) : "";
}

std::string because(const MemberFacts& member) {
  return member.reason.empty() ? "" : ": " + member.reason;
}

std::string step_text(const LoadFacts& load) {
  if (load.wave) return absl::StrFormat("wave %u, step %u", load.wave->number, load.stall->step);
  return absl::StrFormat("step %u", load.stall->step);
}

std::string words_of_stall(const EngineFacts& engine) {
  const StallFacts& stall = *engine.load->stall;
  const std::string name = name_of("rank", engine.place);
  const std::string when = since(stall.seconds) + ": " + step_text(*engine.load);
  if (stall.worker_pid > 0) {
    return absl::StrFormat("%s is held up by its worker (pid %u), which stands in %s%s", name,
                           stall.worker_pid, stall.phase, when);
  }
  if (!stall.awaits_ranks.empty()) {
    return absl::StrFormat("%s waits in %s for %s%s", name, stall.phase,
                           ranks_text(stall.awaits_ranks), when);
  }
  return absl::StrFormat("%s is late in %s%s (%s)", name, stall.phase, when, stall.text);
}

std::string words_of_awaited(const EngineFacts& engine, const std::vector<uint32_t>& waiters) {
  std::string text = name_of("rank", engine.place) + " is awaited by " + ranks_text(waiters);
  if (engine.load && engine.load->heard_seconds) {
    text += absl::StrFormat("; it was last heard %.1f s ago", *engine.load->heard_seconds);
  }
  return text;
}

// Of a rank that is not ready, or that nobody is connected to.
EngineDiagnosis judge_absent(const EngineFacts& engine) {
  const MemberFacts& place = engine.place;
  const std::string name = name_of("rank", place);
  EngineDiagnosis found{.engine = &engine, .trouble = Trouble::kMissing, .state = place.state};
  if (place.state == "absent") {
    found.words = name + " is absent: no process has come for it";
  } else if (place.state == "starting") {
    found.trouble = Trouble::kComing;
    found.words = name + " is starting" + since(engine.state_seconds);
    if (!place.reason.empty()) found.words += "; before that" + because(place);
  } else if (place.state == "ready") {
    found.trouble = Trouble::kComing;
    found.state = "unheard";
    found.words = name + " is ready, but not connected to the front end that was asked";
  } else {
    found.words = name + " is " + place.state + since(engine.state_seconds) + because(place);
  }
  return found;
}

EngineDiagnosis judge(const EngineFacts& engine, const Waiters& waiters) {
  const std::string& state = engine.place.state;
  const bool is_here = state == "ready" || state == "draining";
  const auto awaited = waiters.find(engine.place.index);
  EngineDiagnosis found{.engine = &engine, .state = state};
  if (!is_here || (engine.is_served && !engine.load && state == "ready")) {
    found = judge_absent(engine);
    if (awaited != waiters.end()) found.trouble = Trouble::kCulprit;
    return found;
  }
  if (engine.load && engine.load->stall) {
    const StallFacts& stall = *engine.load->stall;
    const bool is_awaited = awaited != waiters.end();
    const bool is_culprit = stall.worker_pid > 0 || (is_awaited && stall.awaits_ranks.empty());
    found.trouble = is_culprit ? Trouble::kCulprit : Trouble::kWaits;
    found.state = stall.worker_pid > 0 ? "stuck" : stall.awaits_ranks.empty() ? "late" : "waits";
    found.words = words_of_stall(engine);
  } else if (awaited != waiters.end()) {
    found.trouble = Trouble::kCulprit;
    found.state = "awaited";
    found.words = words_of_awaited(engine, awaited->second);
  } else if (state == "draining") {
    found.trouble = Trouble::kHeld;
    found.words = name_of("rank", engine.place) + " drains" + since(engine.state_seconds);
  } else if (engine.load && !engine.load->paused.empty()) {
    found.trouble = Trouble::kHeld;
    found.state = "paused";
    found.words = name_of("rank", engine.place) + " is paused, mode " + engine.load->paused;
  }
  return found;
}

Waiters find_waiters(const ClusterFacts& cluster) {
  Waiters waiters;
  for (const EngineFacts& engine : cluster.engines) {
    if (!engine.load || !engine.load->stall) continue;
    for (const uint32_t rank : engine.load->stall->awaits_ranks) {
      waiters[rank].push_back(engine.place.index);
    }
  }
  return waiters;
}

void judge_others(const char* kind, const std::vector<MemberFacts>& members,
                  std::vector<std::string>& out) {
  for (const MemberFacts& member : members) {
    if (member.state != "lost") continue;
    out.push_back(name_of(kind, member) + " is lost" + because(member));
  }
}

}  // namespace

std::size_t Diagnosis::trouble_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(engines, [](const auto& engine) { return engine.is_trouble(); }));
}

Diagnosis diagnose(const ClusterFacts& cluster) {
  Diagnosis diagnosis;
  const Waiters waiters = find_waiters(cluster);
  for (const EngineFacts& engine : cluster.engines) {
    diagnosis.engines.push_back(judge(engine, waiters));
  }
  std::ranges::stable_sort(diagnosis.engines, {}, &EngineDiagnosis::trouble);
  if (!cluster.is_coordinator_heard) {
    diagnosis.others.emplace_back("the coordinator is silent: what is said of the view is old");
  }
  judge_others("api-server", cluster.front_ends, diagnosis.others);
  judge_others("node agent", cluster.node_agents, diagnosis.others);
  return diagnosis;
}

}  // namespace trireme::top
