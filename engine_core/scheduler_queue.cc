// Who waits, who of them may begin, and what counts as long: see scheduler.h.
#include <algorithm>

#include "engine_core/scheduler.h"

namespace trireme::engine {

uint32_t Scheduler::long_above() const {
  return config_.long_prefill_tokens > 0 ? config_.long_prefill_tokens : config_.batched_tokens_max;
}

// Who wants the logprobs of a prompt, or all its states, needs all of it computed.
bool Scheduler::may_hit(const Request& request) const {
  return request.prompt_logprobs_sent >= request.prompt_logprobs_wanted() && !request.pools();
}

bool Scheduler::is_long_now(Request& request) const {
  const uint32_t known = request.known_count();
  if (known <= long_above()) return false;
  return !may_hit(request) ||
         !kv_.finds(request.blocks, request.tokens, request.cache_salt, known - long_above());
}

// What is cached has changed since it came. True: it is in the other queue now.
bool Scheduler::judge_again(Request& request) {
  if (request.was_admitted) return false;
  const bool is_long = is_long_now(request);
  if (is_long == request.is_long) return false;
  auto entry = queue_of(request).extract(&request);
  request.is_long = is_long;
  queue_of(request).insert(std::move(entry));
  return true;
}

void Scheduler::note_part_way(const Request& request, uint32_t count) {
  if (count < request.uncomputed()) part_way_.push_back(&request);
}

bool Scheduler::may_be_part_way(const Request& request) const {
  const auto is_before = [&](const Request* other) { return QueueOrder{}(other, &request); };
  return config_.partial_prefills_max == 0 ||
         std::ranges::count_if(part_way_, is_before) < config_.partial_prefills_max;
}

bool Scheduler::may_be_long(const Request& request) const {
  const auto is_before = [&](const Request* other) {
    return other->is_long && QueueOrder{}(other, &request);
  };
  return config_.long_partial_prefills_max == 0 ||
         std::ranges::count_if(part_way_, is_before) < config_.long_partial_prefills_max;
}

// Only the first of each queue is judged again: who came long waits at least behind it.
Request* Scheduler::next_waiting() {
  while (!waiting_.empty() && judge_again(**waiting_.begin())) {
  }
  while (!waiting_long_.empty() && !may_be_long(**waiting_long_.begin()) &&
         judge_again(**waiting_long_.begin())) {
  }
  Request* next = waiting_.empty() ? nullptr : *waiting_.begin();
  if (waiting_long_.empty()) return next;
  Request* first_long = *waiting_long_.begin();
  if (!may_be_long(*first_long)) return next;
  return next == nullptr || QueueOrder{}(first_long, next) ? first_long : next;
}

}  // namespace trireme::engine
