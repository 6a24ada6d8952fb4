#include "api_server/cluster_page.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "common/json_text.h"

namespace trireme::api {
namespace {

using wire::MemberState;
using wire::Role;

double seconds_between(Instant begin, Instant end) {
  return std::max(0.0, std::chrono::duration<double>(end - begin).count());
}

std::string_view name_of(MemberState state) {
  switch (state) {
    case MemberState::kStarting:
      return "starting";
    case MemberState::kReady:
      return "ready";
    case MemberState::kDraining:
      return "draining";
    case MemberState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string_view name_of(EngineClient::EngineState state) {
  switch (state) {
    case EngineClient::EngineState::kAbsent:
      return "absent";
    case EngineClient::EngineState::kReady:
      return "ready";
    case EngineClient::EngineState::kDraining:
      return "draining";
    case EngineClient::EngineState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string_view name_of(wire::HeldPause pause) {
  switch (pause) {
    case wire::HeldPause::kNone:
      return "";
    case wire::HeldPause::kWait:
      return "wait";
    case wire::HeldPause::kKeep:
      return "keep";
    case wire::HeldPause::kAbort:
      return "abort";
  }
  return "unknown";
}

std::string_view name_of(wire::StallPhase phase) {
  constexpr std::string_view kNames[] = {"unknown", "queue",      "exchange",    "dispatch",
                                         "expert",  "combine",    "sample",      "attention",
                                         "mlp",     "all-reduce", "logits",      "stage",
                                         "start",   "result",     "load experts"};
  const auto index = static_cast<std::size_t>(phase);
  return index < std::size(kNames) ? kNames[index] : kNames[0];
}

// An object or a list that is being written; the braces are its own.
class Json {
 public:
  Json(std::string& out, char open, char close) : out_(out), close_(close) { out_ += open; }
  ~Json() { out_ += close_; }
  Json(const Json&) = delete;
  Json& operator=(const Json&) = delete;

  // The place of the next element; the caller writes it.
  std::string& next() {
    if (!std::exchange(is_empty_, false)) out_ += ',';
    return out_;
  }
  std::string& next(std::string_view name) {
    next() += '"';
    out_ += name;
    out_ += "\":";
    return out_;
  }
  void text(std::string_view name, std::string_view value) {
    append_json_string(next(name), value);
  }
  void number(std::string_view name, uint64_t value) { next(name) += std::to_string(value); }
  // What is no number (a peer may say anything) is 0.
  void real(std::string_view name, double value) {
    next(name) += absl::StrFormat("%.3f", std::isfinite(value) ? value : 0);
  }
  void truth(std::string_view name, bool value) { next(name) += value ? "true" : "false"; }
  void null(std::string_view name) { next(name) += "null"; }
  void numbers(std::string_view name, const std::vector<uint32_t>& values) {
    Json list(next(name), '[', ']');
    for (const uint32_t value : values) list.next() += std::to_string(value);
  }

 private:
  std::string& out_;
  const char close_;
  bool is_empty_ = true;
};

class Page {
 public:
  Page(const EngineClient& client, Instant now) : client_(client), now_(now) {
    for (const wire::Member& member : client.view().members) {
      if (member.role != Role::kEngine || member.index >= EngineClient::kRanksMax) continue;
      if (member.index >= by_rank_.size()) by_rank_.resize(member.index + 1);
      by_rank_[member.index] = &member;
    }
    by_rank_.resize(
        std::max<std::size_t>({by_rank_.size(), client.engine_count(), client.engines().size()}));
  }

  std::string render(std::string_view version) const {
    std::string text;
    {
      Json page(text, '{', '}');
      page.text("version", version);
      page.number("epoch", client_.epoch().value);
      page.truth("coordinator_heard", client_.is_coordinator_heard());
      page.truth("draining", client_.is_draining());
      {
        Json engines(page.next("engines"), '[', ']');
        for (uint32_t rank = 0; rank < by_rank_.size(); ++rank) {
          write_engine(engines.next(), rank);
        }
      }
      write_members(page.next("front_ends"), Role::kApiServer);
      write_members(page.next("node_agents"), Role::kNodeAgent);
    }
    return text;
  }

 private:
  static void write_place(Json& out, const wire::Member& member) {
    out.text("node", member.node);
    out.number("pid", member.pid);
    out.text("state", name_of(member.state));
    out.number("restarts", member.restarts);
    out.text("reason", member.reason);
  }

  void write_members(std::string& text, Role role) const {
    Json list(text, '[', ']');
    for (const wire::Member& member : client_.view().members) {
      if (member.role != role) continue;
      Json one(list.next(), '{', '}');
      one.number("index", member.index);
      write_place(one, member);
      if (role == Role::kApiServer) one.text("address", member.ready.http_address);
    }
  }

  void write_engine(std::string& text, uint32_t rank) const {
    Json one(text, '{', '}');
    one.number("rank", rank);
    const EngineClient::Engine* const engine =
        rank < client_.engines().size() ? &client_.engines()[rank] : nullptr;
    if (const wire::Member* const member = by_rank_[rank]) {
      write_place(one, *member);
      one.numbers("worker_pids", member->ready.worker_pids);
    } else {  // As long as no coordinator was heard, what the engine itself has said.
      one.text("state", engine == nullptr ? "absent" : name_of(engine->state));
    }
    if (const auto since = client_.state_since(rank)) {
      one.real("state_seconds", seconds_between(*since, now_));
    } else {
      one.null("state_seconds");
    }
    one.truth("served", client_.is_served(rank));
    const bool is_connected =
        engine != nullptr && (engine->state == EngineClient::EngineState::kReady ||
                              engine->state == EngineClient::EngineState::kDraining);
    one.truth("connected", is_connected);
    if (is_connected) write_load(one, rank, *engine);
  }

  void write_load(Json& out, uint32_t rank, const EngineClient::Engine& engine) const {
    const wire::EngineStats& stats = client_.balancer().entries()[rank].stats;
    if (engine.heard_at == Instant{}) {
      out.null("heard_seconds");
    } else {
      out.real("heard_seconds", seconds_between(engine.heard_at, now_));
    }
    out.number("running", stats.running);
    out.number("waiting", stats.waiting);
    out.real("kv_usage", stats.kv_usage);
    const auto queries = static_cast<double>(std::max<uint64_t>(stats.prefix_query_tokens, 1));
    out.real("prefix_hit_rate", static_cast<double>(stats.prefix_hit_tokens) / queries);
    if (const auto rate = engine.rate.per_second()) {
      out.real("tokens_per_second", *rate);
    } else {
      out.null("tokens_per_second");
    }
    out.number("step", stats.step.value);
    if (stats.standing.stepping == wire::Stepping::kAlone) {
      out.null("wave");
    } else {
      Json wave(out.next("wave"), '{', '}');
      wave.number("number", wave_number(stats.wave));
      wave.truth("asleep", stats.standing.stepping == wire::Stepping::kAsleep);
    }
    out.text("paused", name_of(stats.standing.pause));
    write_stall(out, stats, engine);
  }

  void write_stall(Json& out, const wire::EngineStats& stats,
                   const EngineClient::Engine& engine) const {
    if (!engine.stall) return out.null("stall");
    Json stall(out.next("stall"), '{', '}');
    stall.text("phase", name_of(engine.stall->phase));
    stall.number("epoch", engine.stall->epoch.value);
    stall.number("step", engine.stall->step);
    stall.numbers("awaits_ranks", engine.stall->awaited_ranks);
    if (engine.stall->worker_pid > 0) {
      stall.number("worker_pid", engine.stall->worker_pid);
    } else {
      stall.null("worker_pid");
    }
    stall.real("seconds", seconds_between(engine.stalled_at, now_));
    stall.text("text", stats.stall);
  }

  const EngineClient& client_;
  const Instant now_;
  std::vector<const wire::Member*> by_rank_;  // Null: the view has none.
};

}  // namespace

std::string render_cluster(const EngineClient& client, std::string_view version, Instant now) {
  return Page(client, now).render(version);
}

}  // namespace trireme::api
