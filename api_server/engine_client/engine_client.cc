#include "api_server/engine_client/engine_client.h"

#include <algorithm>
#include <utility>

#include "common/log.h"

namespace trireme::api {
namespace {

// Lives that ended are remembered to drop what they still say; forgetting the oldest few is safe,
// because their connections are long gone.
constexpr std::size_t kOverMax = 4096;

constexpr std::string_view kOutputsLost = "outputs of it were lost";
constexpr std::string_view kNoEngine = "no engine is ready; try again later";

}  // namespace

EngineClient::EngineClient(const EngineClientOptions& options, EngineTransport& transport)
    : options_(options), transport_(transport), model_tokens_max_(options.model_tokens_max) {
  update_capacity();
}

bool EngineClient::is_live(const Engine& engine) {
  return engine.state == EngineState::kReady || engine.state == EngineState::kDraining;
}

void EngineClient::on_message(std::string_view peer, std::span<const std::byte> bytes) {
  const auto kind = wire::peek_kind(bytes);
  if (kind == wire::MessageKind::kEngineOutputs) {
    auto outputs = wire::unpack<wire::EngineOutputs>(bytes);
    if (outputs.ok() && outputs->engine.value < kRanksMax) {
      on_outputs(peer, *outputs);
      return;
    }
  } else if (kind == wire::MessageKind::kEngineReady) {
    const auto ready = wire::unpack<wire::EngineReady>(bytes);
    if (ready.ok() && ready->engine.value < kRanksMax) {
      if (!is_served(ready->engine.value)) return;  // It greets every front end of the view.
      on_ready(peer, *ready);
      return;
    }
  } else if (kind == wire::MessageKind::kUtilityReply) {
    const auto reply = wire::unpack<wire::UtilityReply>(bytes);
    if (reply.ok()) {
      on_reply(peer, *reply);
      return;
    }
  }
  ++counters_.undecodable;
  log::debug("engine_message_dropped", {{"bytes", bytes.size()}});
}

void EngineClient::on_ready(std::string_view peer, const wire::EngineReady& ready) {
  const uint32_t rank = ready.engine.value;
  if (over_.contains(ready.incarnation)) {
    ++counters_.stale;
    return;
  }
  const auto seen = seen_.find(rank);
  if (seen != seen_.end() && !may_serve(ready.incarnation, seen->second)) {
    candidates_[rank] = {.peer = std::string(peer), .ready = ready};
    return;
  }
  admit(peer, ready);
}

// The life that the view names unless it is lost, or its successor.
bool EngineClient::may_serve(Incarnation life, const Seen& seen) {
  return (life == seen.incarnation) != (seen.state == wire::MemberState::kLost);
}

void EngineClient::admit(std::string_view peer, const wire::EngineReady& ready) {
  const uint32_t rank = ready.engine.value;
  if (rank >= engines_.size()) engines_.resize(rank + 1);
  Engine& engine = engines_[rank];
  const bool is_same_life = engine.incarnation == ready.incarnation;
  const bool is_same = is_same_life && engine.ready.connection == ready.connection;
  if (is_same && engine.is_broken) return;  // Until it makes another.
  if (is_same && is_live(engine)) {
    if (ready.outputs_sent != engine.sequence) break_connection(rank, kOutputsLost);
    return;
  }
  if (is_live(engine)) {
    lose(rank, is_same_life ? "its connection broke" : "it was started anew", !is_same_life);
  }
  const auto seen = seen_.find(rank);
  const bool is_draining = seen != seen_.end() && seen->second.incarnation == ready.incarnation &&
                           seen->second.state == wire::MemberState::kDraining;
  engine.state = is_draining ? EngineState::kDraining : EngineState::kReady;
  engine.incarnation = ready.incarnation;
  engine.peer = peer;
  engine.ready = ready;
  if (!is_same) {
    engine.sequence = ready.outputs_sent;
    engine.is_broken = false;
    engine.aborts.clear();
    balancer_.reset(rank);
    note_stall(rank);
    engine.heard_at = {};
    engine.rate = {};
    if (!is_same_life) engine.shm = {};
  }
  balancer_.set_eligible(rank, !is_draining);
  update_capacity();
  calls_.on_join(rank, is_draining);
  log::info("engine_ready", {{"engine", rank}, {"engines_ready", ready_count_}});
}

void EngineClient::on_outputs(std::string_view peer, wire::EngineOutputs& outputs) {
  const uint32_t rank = outputs.engine.value;
  const bool is_current = rank < engines_.size() && engines_[rank].peer == peer &&
                          engines_[rank].incarnation == outputs.incarnation &&
                          engines_[rank].ready.connection == outputs.connection &&
                          !engines_[rank].is_broken;
  if (!is_current) {
    ++counters_.stale;
    const auto candidate = candidates_.find(rank);
    if (candidate != candidates_.end() && candidate->second.peer == peer) {
      candidate->second.ready.outputs_sent = outputs.sequence;
    }
    return;
  }
  if (outputs.sequence != ++engines_[rank].sequence) break_connection(rank, kOutputsLost);
  if (!is_live(engines_[rank])) {
    ++counters_.stale;
    return;
  }
  balancer_.update(rank, outputs.stats, outputs.requests_received);
  engines_[rank].heard_at = now_;
  note_stall(rank);
  if (outputs.shm) engines_[rank].shm = *outputs.shm;
  wave_ = std::max(wave_, outputs.stats.wave);
  step_tokens_ = 0;
  for (wire::EngineOutput& output : outputs.outputs) take_output(rank, output);
  if (step_tokens_ > 0) counters_.step_tokens.observe(step_tokens_);
}

void EngineClient::take_output(uint32_t rank, wire::EngineOutput& output) {
  JournalEntry* entry = journal_.find(output.key);
  if (entry == nullptr || entry->engine != rank) {
    ++counters_.stale;
    return;
  }
  const bool is_computed = !output.token_ids.empty() || !output.pooled.empty();
  if (!entry->is_prefilled && is_computed) {
    entry->is_prefilled = true;
    admission_.prefilled(entry->request.prompt_token_ids.size());
    step_tokens_ += entry->request.prompt_token_ids.size();
  }
  step_tokens_ += output.token_ids.size();
  auto& sent = entry->request.output_token_ids;
  sent.insert(sent.end(), output.token_ids.begin(), output.token_ids.end());
  // The sink may abort this request, or end others: the entry is not touched afterwards.
  const std::shared_ptr<OutputSink> sink = entry->sink;
  const uint32_t choice = entry->choice;
  if (output.finish_reason != wire::FinishReason::kNone) end(output.key);
  sink->take(choice, output);
}

void EngineClient::on_reply(std::string_view peer, const wire::UtilityReply& reply) {
  const uint32_t rank = reply.engine.value;
  if (rank >= engines_.size() || engines_[rank].peer != peer || !is_live(engines_[rank])) {
    ++counters_.stale;
    return;
  }
  calls_.on_reply(rank, reply);
}

void EngineClient::end(RequestKey key) {
  const JournalEntry entry = journal_.take(key);
  admission_.leave(1);
  if (!entry.is_prefilled) admission_.prefilled(entry.request.prompt_token_ids.size());
}

void EngineClient::break_connection(uint32_t rank, std::string_view why) {
  engines_[rank].is_broken = true;
  lose(rank, why, /*is_over=*/false);
}

void EngineClient::lose(uint32_t rank, std::string_view why, bool is_over) {
  Engine& engine = engines_[rank];
  if (engine.state == EngineState::kAbsent) return;
  if (is_over) {
    if (over_.size() >= kOverMax) over_.clear();
    over_.insert(engine.incarnation);
  }
  if (!is_live(engine)) return;
  engine.state = EngineState::kLost;
  ++engine.lost;
  balancer_.set_eligible(rank, false);
  update_capacity();
  const std::vector<RequestKey> keys = journal_.keys_of(rank);
  log::warning(
      "engine_lost",
      {{"engine", rank}, {"why", why}, {"requests", keys.size()}, {"engines_ready", ready_count_}});
  const Status status =
      error(StatusCode::kUnavailable, "engine %u was lost (%s); try again", rank, why);
  // A life that is not over may come back after all.
  for (const RequestKey key : keys) fail(key, status, /*must_abort=*/!is_over);
  calls_.on_loss(rank);
}

void EngineClient::fail_all(const Status& status) {
  for (const RequestKey key : journal_.keys()) fail(key, status, /*must_abort=*/true);
  calls_.fail_all(status);
}

void EngineClient::fail(RequestKey key, const Status& status, bool must_abort) {
  const JournalEntry* const entry = journal_.find(key);
  if (entry == nullptr) return;  // Ended with another choice of its call.
  const std::shared_ptr<OutputSink> sink = entry->sink;
  const uint32_t choice = entry->choice;
  if (must_abort) engines_[entry->engine].aborts.push_back(key);
  end(key);
  sink->fail(choice, status);
}

void EngineClient::on_view(const wire::View& view) {
  if (view.epoch < epoch_) return;
  epoch_ = view.epoch;
  view_ = view;
  std::unordered_set<uint32_t> listed;
  for (const wire::Member& member : view.members) {
    if (member.role != wire::Role::kEngine || member.index >= kRanksMax) continue;
    if (!is_served(member.index)) continue;
    listed.insert(member.index);
    see(member, view);
  }
  // Gone from the view of the coordinator that had listed it. One that restarted lists engines as
  // they register again, and nothing follows from their absence before.
  for (auto it = seen_.begin(); it != seen_.end();) {
    const auto& [rank, seen] = *it;
    if (listed.contains(rank) || seen.coordinator != view.coordinator) {
      ++it;
      continue;
    }
    if (rank < engines_.size() && engines_[rank].incarnation == seen.incarnation) {
      lose(rank, "it left the cluster", /*is_over=*/true);
    }
    it = seen_.erase(it);
  }
}

void EngineClient::see(const wire::Member& member, const wire::View& view) {
  const uint32_t rank = member.index;
  Seen& seen = seen_[rank];
  const bool is_news = seen.incarnation != member.incarnation || seen.state != member.state;
  seen = {.incarnation = member.incarnation,
          .coordinator = view.coordinator,
          .state = member.state,
          .since = is_news ? now_ : seen.since};
  if (rank < engines_.size()) {
    Engine& engine = engines_[rank];
    const bool is_same = engine.incarnation == member.incarnation;
    if (is_same && member.state == wire::MemberState::kLost) {
      lose(rank, member.reason.empty() ? "it fell silent" : std::string_view(member.reason),
           /*is_over=*/false);
    } else if (!is_same && !over_.contains(member.incarnation) &&
               member.state != wire::MemberState::kLost) {
      lose(rank, "it was started anew", /*is_over=*/true);
    } else if (is_same && engine.state == EngineState::kReady &&
               member.state == wire::MemberState::kDraining) {
      engine.state = EngineState::kDraining;
      balancer_.set_eligible(rank, false);
      update_capacity();
      calls_.on_drain(rank);
    }
  }
  const auto candidate = candidates_.find(rank);
  if (candidate == candidates_.end()) return;
  const Incarnation waiting = candidate->second.ready.incarnation;
  const bool is_over = over_.contains(waiting);
  if (!is_over && !may_serve(waiting, seen)) return;
  const Candidate taken = std::move(candidates_.extract(candidate).mapped());
  if (!is_over) admit(taken.peer, taken.ready);
}

void EngineClient::on_load_board(const wire::LoadBoard& board) {
  coordinator_stats_ = board.stats;
  for (const wire::LoadReport& report : board.reports) {
    const uint32_t rank = report.engine.value;
    if (rank >= engines_.size() || engines_[rank].incarnation != report.incarnation) continue;
    balancer_.update_from_board(rank, report.stats);
    note_stall(rank);
  }
}

Status EngineClient::check_pin(uint32_t rank) const {
  const uint32_t count = std::max(options_.engine_count, static_cast<uint32_t>(engines_.size()));
  if (rank >= count) {
    return error(StatusCode::kInvalidArgument, "X-data-parallel-rank: %u is out of range [0, %u)",
                 rank, count);
  }
  if (!is_served(rank)) {
    return error(StatusCode::kInvalidArgument,
                 "X-data-parallel-rank: rank %u is served by another node (hybrid or external "
                 "balancing)",
                 rank);
  }
  if (rank >= engines_.size() || engines_[rank].state != EngineState::kReady) {
    return error(StatusCode::kUnavailable, "engine %u is not ready; try again later", rank);
  }
  return {};
}

Status EngineClient::submit(std::vector<wire::AddRequest> requests,
                            const std::shared_ptr<OutputSink>& sink,
                            std::optional<uint32_t> pinned_rank, std::vector<RequestKey>& keys) {
  if (draining_) {
    return error(StatusCode::kUnavailable, "the server is shutting down; try another one");
  }
  if (pinned_rank) TRIREME_RETURN_IF_ERROR(check_pin(*pinned_rank));
  if (ready_count_ == 0) return error(StatusCode::kUnavailable, "%s", kNoEngine);
  uint64_t prompt_tokens = 0;
  for (const wire::AddRequest& request : requests) {
    prompt_tokens += request.prompt_token_ids.size();
  }
  TRIREME_RETURN_IF_ERROR(admission_.try_enter(requests.size(), prompt_tokens));
  const std::size_t first = keys.size();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].key = RequestKey{next_key_++};
    requests[i].wave = wave_;
    keys.push_back(requests[i].key);
    const Status sent = send(requests[i], sink, static_cast<uint32_t>(i), pinned_rank);
    if (sent.ok()) continue;
    // None of a call's requests stays when one cannot go.
    admission_.leave(requests.size() - i);
    for (std::size_t j = i; j < requests.size(); ++j) {
      admission_.prefilled(requests[j].prompt_token_ids.size());
    }
    abort(std::span(keys).subspan(first));
    keys.resize(first);
    return sent;
  }
  return {};
}

// `request` is taken only when it was sent.
Status EngineClient::send(wire::AddRequest& request, const std::shared_ptr<OutputSink>& sink,
                          uint32_t choice, std::optional<uint32_t> pinned_rank) {
  buffer_.clear();
  wire::pack(request, buffer_);
  std::vector<uint32_t> full;
  for (;;) {
    const std::optional<uint32_t> rank =
        pinned_rank && full.empty() && is_eligible(*pinned_rank)
            ? pinned_rank
            : (pinned_rank ? std::nullopt : balancer_.choose(full));
    if (!rank) break;
    const TransportResult result = transport_.send(engines_[*rank].peer, buffer_);
    if (result == TransportResult::kSent) {
      balancer_.count_sent(*rank);
      ++engines_[*rank].routed;
      journal_.add(
          {.request = std::move(request), .engine = *rank, .choice = choice, .sink = sink});
      return {};
    }
    if (result == TransportResult::kGone) {
      // Its other requests are failed from flush(): here a sink might be in the middle of a call.
      balancer_.set_eligible(*rank, false);
      gone_.push_back(*rank);
    } else {
      ++counters_.engine_full;
    }
    full.push_back(*rank);
  }
  if (full.size() == gone_.size()) return error(StatusCode::kUnavailable, "%s", kNoEngine);
  return error(StatusCode::kResourceExhausted, "the engines' queues are full; try again later");
}

bool EngineClient::is_eligible(uint32_t rank) const {
  return balancer_.entries()[rank].is_eligible;
}

void EngineClient::abort(std::span<const RequestKey> keys) {
  for (const RequestKey key : keys) {
    const JournalEntry* entry = journal_.find(key);
    if (entry == nullptr) continue;
    engines_[entry->engine].aborts.push_back(key);
    ++counters_.aborted;
    end(key);
  }
}

void EngineClient::flush() {
  for (const uint32_t rank : std::exchange(gone_, {})) {
    break_connection(rank, "its connection broke");
  }
  for (Engine& engine : engines_) {
    if (!engine.aborts.empty() && is_live(engine)) send_aborts(engine);
  }
}

TransportResult EngineClient::send_aborts(Engine& engine) {
  wire::AbortRequests abort;
  abort.keys.swap(engine.aborts);
  buffer_.clear();
  wire::pack(abort, buffer_);
  const TransportResult result = transport_.send(engine.peer, buffer_);
  // A full queue: the aborts wait for the next turn. A peer that is gone has nothing to abort.
  if (result == TransportResult::kFull) engine.aborts.swap(abort.keys);
  return result;
}

bool EngineClient::send_call(uint32_t rank, const wire::UtilityCall& call) {
  buffer_.clear();
  wire::pack(call, buffer_);
  return transport_.send(engines_[rank].peer, buffer_) == TransportResult::kSent;
}

void EngineClient::tick(Instant now) {
  now_ = now;
  calls_.tick(now);
  if (now < rates_at_) return;
  rates_at_ = now + kRateInterval;
  for (uint32_t rank = 0; rank < engines_.size(); ++rank) {
    if (!is_live(engines_[rank]) || engines_[rank].heard_at == Instant{}) continue;
    engines_[rank].rate.look(balancer_.entries()[rank].stats.generation_tokens, now);
  }
}

// What is told is how long it had lasted then; clocks of other nodes do not come into it.
void EngineClient::note_stall(uint32_t rank) {
  Engine& engine = engines_[rank];
  const auto& told = balancer_.entries()[rank].stats.standing.stall;
  if (told == engine.stall) return;
  engine.stall = told;
  engine.stalled_at = told ? now_ - std::chrono::milliseconds(told->milliseconds) : Instant{};
}

std::optional<Instant> EngineClient::state_since(uint32_t rank) const {
  const auto seen = seen_.find(rank);
  if (seen == seen_.end() || seen->second.since == Instant{}) return std::nullopt;
  return seen->second.since;
}

void EngineClient::check_connections() {
  for (uint32_t rank = 0; rank < engines_.size(); ++rank) {
    Engine& engine = engines_[rank];
    if (is_live(engine) && send_aborts(engine) == TransportResult::kGone) {
      break_connection(rank, "its connection broke");
    }
  }
}

void EngineClient::update_capacity() {
  ready_count_ = 0;
  uint64_t sequences = 0;
  uint64_t kv_tokens = 0;
  model_tokens_max_ = options_.model_tokens_max;
  for (const Engine& engine : engines_) {
    if (engine.state != EngineState::kReady) continue;
    ++ready_count_;
    sequences += engine.ready.sequences_max;
    kv_tokens += uint64_t{engine.ready.block_count} * engine.ready.block_tokens;
    const uint32_t tokens_max = engine.ready.model_tokens_max;
    if (tokens_max > 0 && (model_tokens_max_ == 0 || tokens_max < model_tokens_max_)) {
      model_tokens_max_ = tokens_max;
    }
  }
  admission_.set_limits(admission_limits(options_.queued_requests_max, options_.queued_tokens_max,
                                         sequences, kv_tokens, options_.front_ends));
}

}  // namespace trireme::api
