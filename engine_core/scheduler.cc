#include "engine_core/scheduler.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::engine {

Scheduler::Scheduler(const SchedulerConfig& config)
    : config_(config), kv_(config.kv), in_flight_(config.steps_in_flight_max) {
  // A step that could not hold one token of each sequence would starve the last ones.
  config_.sequences_max = std::min(config.sequences_max, config.batched_tokens_max);
  const uint64_t kv_tokens = uint64_t{config.kv.block_count} * config.kv.block_tokens;
  TRIREME_CHECK(config_.model_tokens_max > 1 && config_.model_tokens_max <= kv_tokens,
                "one sequence of full length must fit, or it would preempt itself for ever");
  TRIREME_CHECK(config_.sequences_max > 0 && config_.steps_in_flight_max > 0, "checked at start");
  for (uint32_t slot = config_.sequences_max; slot > 0; --slot) free_slots_.push_back(slot - 1);
  running_.reserve(config_.sequences_max);
  rows_.reserve(config_.sequences_max);
  part_way_.reserve(config_.sequences_max);
  for (InFlight& step : in_flight_) step.rows.reserve(config_.sequences_max);
}

Status Scheduler::check_request(const wire::AddRequest& request) const {
  const std::size_t prompt = request.prompt_token_ids.size();
  const std::size_t total = prompt + request.output_token_ids.size();
  if (prompt == 0) {
    return error(StatusCode::kInvalidArgument,
                 "The prompt is empty: at least one token is needed.");
  }
  const bool pools = request.sampling.pooling != wire::Pooling::kNone;
  if (total > config_.model_tokens_max ||
      (total == config_.model_tokens_max && request.output_token_ids.empty() && !pools)) {
    return error(StatusCode::kInvalidArgument,
                 "The prompt has %u tokens, but the model's limit is %u tokens for prompt and "
                 "output together. Shorten the prompt.",
                 total, config_.model_tokens_max);
  }
  if (!config_.chunked_prefill && prompt > config_.batched_tokens_max) {
    return error(StatusCode::kInvalidArgument,
                 "The prompt has %u tokens, but without chunked prefill a step takes %u. Shorten "
                 "the prompt or raise --max-num-batched-tokens.",
                 prompt, config_.batched_tokens_max);
  }
  const auto negative = [](int32_t token) { return token < 0; };
  if (std::ranges::any_of(request.prompt_token_ids, negative) ||
      std::ranges::any_of(request.output_token_ids, negative)) {
    return error(StatusCode::kInvalidArgument, "A token id is negative.");
  }
  if (by_key_.size() >= config_.requests_max) {
    return error(StatusCode::kResourceExhausted, "The engine holds %u requests, its limit.",
                 config_.requests_max);
  }
  return absl::OkStatus();
}

bool Scheduler::add(FrontEndId front_end, wire::AddRequest request, Instant now, StepOutputs& out) {
  const Address address{front_end, request.key};
  if (by_key_.contains(address)) return false;
  if (const Status status = check_request(request); !status.ok()) {
    wire::EngineOutput& output = out.add(front_end, request.key);
    output.finish_reason = wire::FinishReason::kError;
    output.error = std::string(status.message());
    output.error_code = static_cast<uint8_t>(status.code());
    return true;
  }
  const auto prompt_count = static_cast<uint32_t>(request.prompt_token_ids.size());
  // Another rank's tokens, of one that took it for a prompt to go on with, count for nothing.
  if (request.sampling.pooling != wire::Pooling::kNone) request.output_token_ids.clear();
  const bool is_resumed = !request.output_token_ids.empty();
  std::vector<int32_t> tokens = std::move(request.prompt_token_ids);
  tokens.insert(tokens.end(), request.output_token_ids.begin(), request.output_token_ids.end());
  if (is_resumed) {
    const Finish finish =
        check_finish(request.sampling, tokens, prompt_count, config_.model_tokens_max);
    if (finish.reason != wire::FinishReason::kNone) {
      wire::EngineOutput& output = out.add(front_end, request.key);
      output.finish_reason = finish.reason;
      output.stop_token_id = finish.stop_token_id;
      return true;
    }
  }
  Request& added = new_request();
  added.front_end = front_end;
  added.key = request.key;
  added.sampling = std::move(request.sampling);
  if (added.pools()) {
    added.sampling.output_tokens_max = 0;
    added.sampling.prompt_logprobs = wire::kLogprobsNone;
  }
  added.cache_salt = std::move(request.cache_salt);
  added.place = place_of(request, now);
  added.arrived_at = now;
  added.tokens = std::move(tokens);
  added.prompt_count = prompt_count;
  // Output exists only after the whole prompt: who has it has the prompt's logprobs too.
  if (is_resumed) added.prompt_logprobs_sent = added.prompt_logprobs_wanted();
  by_key_.emplace(address, &added);
  added.is_long = is_long_now(added);
  queue_of(added).insert(&added);
  waiting_tokens_ += added.known_count();
  return true;
}

// All grow older at the same rate, so who is before whom never changes while they wait.
int64_t Scheduler::place_of(const wire::AddRequest& request, Instant now) const {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  if (config_.policy != SchedulingPolicy::kPriority) return 0;
  if (config_.priority_ageing == Duration::zero()) return request.priority;
  const int64_t level = duration_cast<microseconds>(config_.priority_ageing).count();
  return duration_cast<microseconds>(now.time_since_epoch()).count() + request.priority * level;
}

Request& Scheduler::new_request() {
  if (unused_.empty()) {
    requests_.push_back(std::make_unique<Request>());
    unused_.push_back(requests_.back().get());
  }
  Request& request = *unused_.back();
  unused_.pop_back();
  request = Request{};
  request.serial = next_serial_++;
  return request;
}

bool Scheduler::abort(FrontEndId front_end, RequestKey key) {
  const auto found = by_key_.find({front_end, key});
  if (found == by_key_.end()) return false;
  end(*found->second);
  return true;
}

void Scheduler::abort_front_end(FrontEndId front_end) {
  for (const auto& request : requests_) {
    if (request->serial != 0 && request->front_end == front_end) end(*request);
  }
}

void Scheduler::abort_all(StepOutputs& out) {
  for (const auto& request : requests_) {
    if (request->serial == 0) continue;
    out.add(request->front_end, request->key).finish_reason = wire::FinishReason::kAbort;
    end(*request);
  }
}

void Scheduler::fail_all(const Status& why, StepOutputs& out) {
  for (const auto& request : requests_) {
    if (request->serial != 0) fail(*request, why, out);
  }
}

void Scheduler::leave_queues(Request& request) {
  if (!request.is_running) {
    queue_of(request).erase(&request);
    waiting_tokens_ -= request.known_count();
    return;
  }
  const auto at = std::lower_bound(running_.begin(), running_.end(), &request, QueueOrder{});
  TRIREME_CHECK(at != running_.end() && *at == &request, "a running request is in its place");
  running_.erase(at);
  request.is_running = false;
  free_slots_.push_back(request.slot.value);
  freed_slots_.push_back(request.slot.value);
}

void Scheduler::end(Request& request) {
  leave_queues(request);
  kv_.release(request.blocks);
  by_key_.erase({request.front_end, request.key});
  request.serial = 0;  // Rows in flight find out by this.
  unused_.push_back(&request);
}

wire::EngineStats Scheduler::stats() const {
  wire::EngineStats stats = counters_;
  stats.waiting = static_cast<uint32_t>(waiting_count());
  stats.running = static_cast<uint32_t>(running_.size());
  stats.kv_usage = kv_.usage();
  stats.step = last_step_;
  stats.store_bytes = kv_.stored_count() * config_.store_slot_bytes;
  stats.prefill_tokens_waiting = waiting_tokens_;
  for (const Request* request : running_) {
    const uint32_t left = request->uncomputed();
    if (left > 1) stats.prefill_tokens_waiting += left;
  }
  return stats;
}

void Scheduler::check_invariants() const {
  kv_.check_invariants();
  TRIREME_CHECK(std::ranges::is_sorted(running_, QueueOrder{}), "running is in order");
  TRIREME_CHECK(running_.size() + free_slots_.size() == config_.sequences_max, "no slot leaks");
  TRIREME_CHECK(by_key_.size() == running_.size() + waiting_count(), "no request leaks");
  TRIREME_CHECK(by_key_.size() + unused_.size() == requests_.size(), "no object leaks");
  std::set<uint32_t> slots(free_slots_.begin(), free_slots_.end());
  std::set<int32_t> held;
  uint64_t waiting_tokens = 0;
  for (const Queue* queue : {&waiting_, &waiting_long_}) {
    for (const Request* request : *queue) {
      TRIREME_CHECK((queue == &waiting_long_) == (request->is_long && !request->was_admitted),
                    "who waits is in its queue");
      TRIREME_CHECK(request->blocks.table.empty(), "who waits holds no block");
      waiting_tokens += request->known_count();
    }
  }
  TRIREME_CHECK(waiting_tokens == waiting_tokens_, "tokens waiting add up");
  for (const Request* request : running_) {
    slots.insert(request->slot.value);
    held.insert(request->blocks.table.begin(), request->blocks.table.end());
    TRIREME_CHECK(request->blocks.table.size() >= kv_.blocks_for(request->computed),
                  "computed tokens have blocks");
  }
  TRIREME_CHECK(slots.size() == config_.sequences_max, "every slot is free or taken once");
  TRIREME_CHECK(held.size() == kv_.pool().held_count(), "no block leaks");
}

}  // namespace trireme::engine
