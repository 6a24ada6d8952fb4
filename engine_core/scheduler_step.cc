// How a step is made: see scheduler.h.
#include <algorithm>

#include "common/check.h"
#include "engine_core/scheduler.h"

namespace trireme::engine {
namespace {

// Blocks that stay free when a request is admitted beside running ones, as a share of all: their
// next tokens must not preempt the newcomer at once.
constexpr uint32_t kSpareBlocksDivisor = 100;

}  // namespace

const wire::StepInput* Scheduler::schedule(Instant now) {
  TRIREME_CHECK(in_flight_count_ < config_.steps_in_flight_max, "collect before scheduling more");
  if (pause_ == Pause::kAll || must_wait_for_tokens()) return nullptr;
  budget_ = config_.batched_tokens_max;
  kv_.begin_step(last_step_.next());
  preempted_ = false;
  part_way_.clear();
  rows_.clear();
  drafts_.clear();
  draft_count_ = 0;
  schedule_decodes();
  schedule_prefills();
  if (!preempted_) admit_waiting(now);
  extend_cut_rows();
  add_drafts();
  return rows_.empty() ? nullptr : build_step();
}

void Scheduler::schedule_decodes() {
  // Spread over the steps in flight, so that every pipeline stage has some.
  std::size_t rows_max = running_.size();
  if (config_.pipeline_stages > 1) rows_max = rows_max / config_.pipeline_stages + 1;
  for (std::size_t i = 0; i < running_.size() && budget_ > 0 && rows_.size() < rows_max; ++i) {
    Request& request = *running_[i];
    if (request.uncomputed() != 1 || !may_decode(request)) continue;
    if (!make_room(request)) return;
    add_row(request, 1, false);
  }
}

bool Scheduler::may_decode(const Request& request) const {
  if (request.pending == 0) return true;
  if (config_.pipeline_stages > 1) return false;
  return request.output_count() + request.pending < request.sampling.output_tokens_max &&
         request.total() < config_.model_tokens_max;
}

// False: the request had to preempt itself.
bool Scheduler::make_room(Request& request) {
  while (!kv_.grow(request.blocks, request.computed + 1)) {
    Request& victim = *running_.back();
    preempt(victim);
    if (&victim == &request) return false;
  }
  return true;
}

void Scheduler::preempt(Request& request) {
  leave_queues(request);
  kv_.release(request.blocks);
  request.computed = 0;
  ++request.preemptions;
  ++counters_.preemptions;
  queue_of(request).insert(&request);
  waiting_tokens_ += request.known_count();
  preempted_ = true;
}

void Scheduler::preempt_all() {
  TRIREME_CHECK(in_flight_count_ == 0, "rows in flight have blocks");
  while (!running_.empty()) preempt(*running_.back());
}

void Scheduler::schedule_prefills() {
  std::size_t behind = 0;
  for (const Request* request : running_) behind += request->uncomputed() > 1 ? 1 : 0;
  const bool some_wait = waiting_count() > 0 && !preempted_ && !free_slots_.empty();
  for (Request* request : running_) {
    if (behind == 0) return;
    if (request->uncomputed() <= 1) continue;
    --behind;
    const uint32_t count = grant(request->uncomputed(), behind > 0 || some_wait);
    note_part_way(*request, count);
    if (count > 0) add_row(*request, count, false);
  }
}

uint32_t Scheduler::grant(uint32_t wanted, bool others_wait) const {
  if (!config_.chunked_prefill && wanted <= config_.batched_tokens_max) {
    return wanted <= budget_ ? wanted : 0;
  }
  uint32_t limit = std::min(budget_, chunk_max());
  if (others_wait) limit = std::min(limit, std::max(config_.kv.block_tokens, budget_ / 2));
  return std::min(wanted, limit);
}

uint32_t Scheduler::chunk_max() const {
  return config_.long_prefill_tokens > 0 ? config_.long_prefill_tokens : UINT32_MAX;
}

// What of an uncomputed prompt goes into its first step. Where no other may be part-way, it is all
// or nothing.
uint32_t Scheduler::first_grant(const Request& request, uint32_t wanted) const {
  const uint32_t count = grant(wanted, waiting_count() > 1);
  if (count == wanted || may_be_part_way(request)) return count;
  return wanted > long_above() || wanted > budget_ ? 0 : wanted;
}

void Scheduler::admit_waiting(Instant now) {
  while (budget_ > 0 && !free_slots_.empty()) {
    Request* next = next_waiting();
    if (next == nullptr) return;
    Request& request = *next;
    // Preempted with a token in flight: it comes back once the token is known.
    if (request.pending > 0) return;
    const uint32_t spare = running_.empty() ? 0 : config_.kv.block_count / kSpareBlocksDivisor;
    const auto cached =
        kv_.admit(request.blocks, request.tokens, request.cache_salt, may_hit(request), spare);
    if (!cached) return;
    const uint32_t count = first_grant(request, request.known_count() - cached->count);
    if (count == 0) return kv_.release(request.blocks);
    take_in(request, *cached, now);
    note_part_way(request, count);
    add_row(request, count, true);
  }
}

void Scheduler::take_in(Request& request, const CachedTokens& cached, Instant now) {
  leave_queues(request);
  request.is_running = true;
  request.slot = SlotId{free_slots_.back()};
  free_slots_.pop_back();
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &request, QueueOrder{}),
                  &request);
  request.computed = cached.count;
  request.is_long = request.uncomputed() > long_above();
  if (request.was_admitted) return;
  request.was_admitted = true;
  request.admitted_at = now;
  request.cached_prompt_tokens = std::min(cached.count, request.prompt_count);
  request.queue_microseconds = microseconds32(now - request.arrived_at);
  if (!config_.kv.prefix_caching || request.pools()) return;
  const uint32_t found_in_cache = cached.count - cached.loaded;
  counters_.prefix_query_tokens += request.known_count();
  counters_.prefix_hit_tokens += found_in_cache;
  if (config_.kv.store_slot_count == 0) return;
  counters_.store_query_tokens += request.known_count() - found_in_cache;
  counters_.store_hit_tokens += cached.loaded;
}

void Scheduler::extend_cut_rows() {
  if (!config_.chunked_prefill) return;
  for (Row& row : rows_) {
    if (budget_ == 0) return;
    const uint32_t missing = row.request->total() - row.start - row.count;
    if (missing == 0 || row.count >= chunk_max()) continue;
    const uint32_t more = std::min({budget_, missing, chunk_max() - row.count});
    row.count += more;
    budget_ -= more;
  }
}

void Scheduler::add_row(Request& request, uint32_t count, bool is_new) {
  rows_.push_back(
      {&request, request.serial, request.computed, count, is_new, false, request.restarts});
  budget_ -= count;
}

const wire::StepInput* Scheduler::build_step() {
  clear_input();
  last_step_ = last_step_.next();
  input_.step = last_step_;
  input_.freed_slots.swap(freed_slots_);
  freed_slots_.clear();
  for (Row& row : rows_) put_row(row);
  kv_.put_moves(input_);
  // Only now: a block filled by this step may be shared from the next step on.
  for (const Row& row : rows_) {
    Request& request = *row.request;
    if (row.pools) continue;
    const uint32_t filled = std::min(request.computed, request.known_count());
    kv_.publish(request.blocks, std::span(request.tokens).first(filled), request.cache_salt);
  }
  const uint32_t place = (in_flight_first_ + in_flight_count_++) % config_.steps_in_flight_max;
  in_flight_[place].step = last_step_;
  in_flight_[place].rows.swap(rows_);
  in_flight_[place].drafts.swap(drafts_);
  return &input_;
}

void Scheduler::put_row(Row& row) {
  Request& request = *row.request;
  request.computed = row.start + row.count;
  row.samples = request.computed == request.total();
  row.pools = request.pools();
  const auto table_size = static_cast<uint32_t>(request.blocks.table.size());
  if (row.is_new) {
    input_.new_sequences.push_back({request.slot, request.tokens, request.prompt_count,
                                    request.blocks.table, request.sampling});
    request.blocks_sent = table_size;
    request.tokens_sent = request.known_count();
  }
  input_.row_slot.push_back(request.slot.value);
  input_.row_start.push_back(row.start);
  input_.row_count.push_back(row.count);
  input_.row_flags.push_back(row.samples ? wire::kRowSamples : 0);
  input_.row_known_start.push_back(request.tokens_sent);
  const uint32_t known_from =
      config_.pipeline_stages > 1 ? request.tokens_sent : request.known_count();
  input_.row_known_count.push_back(request.known_count() - known_from);
  input_.known_tokens.insert(input_.known_tokens.end(), request.tokens.begin() + known_from,
                             request.tokens.end());
  request.tokens_sent = request.known_count();
  input_.row_block_count.push_back(table_size - request.blocks_sent);
  input_.blocks.insert(input_.blocks.end(), request.blocks.table.begin() + request.blocks_sent,
                       request.blocks.table.end());
  request.blocks_sent = table_size;
  if (draft_count_ > 0) put_drafts(row);
  request.pending += row.samples ? 1 : 0;
}

void Scheduler::clear_input() {
  input_.freed_slots.clear();
  input_.new_sequences.clear();
  input_.row_slot.clear();
  input_.row_start.clear();
  input_.row_count.clear();
  input_.row_flags.clear();
  input_.row_known_start.clear();
  input_.row_known_count.clear();
  input_.known_tokens.clear();
  input_.row_block_count.clear();
  input_.blocks.clear();
  input_.row_draft_count.clear();
  input_.draft_tokens.clear();
  input_.save_blocks.clear();
  input_.save_slots.clear();
  input_.load_blocks.clear();
  input_.load_slots.clear();
}

}  // namespace trireme::engine
