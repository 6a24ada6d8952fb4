// Scheduler: which tokens the next step computes. Continuous batching, pure.
//
//   add(), abort() ─▶ waiting ─▶ running ─▶ schedule() ─▶ StepInput ─▶ (workers)
//                                   ▲                                     │
//                                   └── on_result() ◀── StepResult ◀──────┘ ─▶ StepOutputs
//
// A step has one budget of tokens (batched_tokens_max) and a sequence takes a slot for as long as
// it runs (sequences_max). A step takes, in this order:
//   1. one token of every running sequence that decodes;
//   2. prompt chunks of running sequences, several at once. While others wait behind it a chunk
//      takes at most half of what is left, so a long prompt does not block short ones;
//   3. waiting requests, in order, each with all blocks its tokens need, as long as slots, budget
//      and blocks last; none in a step that preempted, and the first that does not fit ends it.
//      Behind long_partial_prefills_max long prompts that are part-way the next one waits, and
//      shorter ones pass it. Neither what goes before those in the order waits for them, nor what
//      was admitted once. Long is what has more to compute than long_prefill_tokens, without what
//      the prefix cache has of it: looked up when it comes, and again when it is its turn;
//   4. what is left goes to the chunks that were cut, in order;
//   5. and then to drafts (below).
// Order is arrival under `fcfs`. Under `priority` it is arrival + priority * priority_ageing, so a
// request rises by one level for each such time that it has waited, and none starves: what comes
// later by more than that, for each level, goes behind it. Without ageing (0) it is (priority,
// arrival). The order is kept over preemption. When a decode finds no block, the last running
// sequence in that order gives up its blocks and slot and waits; its tokens are computed again, to
// the same bits.
//
// Speculative decoding (draft_tokens_max > 0): a row that decodes may carry drafts: by prompt
// lookup tokens that followed the sequence's last ones before (NgramIndex), or only their number,
// where the workers have a draft model that guesses them in the step itself. The workers accept
// those that sampling picks anyway, so tokens are the same, only sooner. How many a request gets
// follows how many were right lately (GuessCount). Drafts take what budget and free blocks are
// left, never anyone's turn. A block with a draft in it is published only once tokens that count
// fill it. Such an engine has one step in flight (with pipeline stages: one for each sequence), for
// proposing needs the last token.
//
// A request that pools (sampling.pooling) ends with its prompt's last token, whose row gives the
// vector in the place of a token. It takes nothing from the prefix cache, for the states of all its
// tokens may count, and leaves nothing there. Where attention goes both ways chunked_prefill is
// off.
//
// With a store behind the KV cache (kv_cache.h) a load may fail, which is known with the step's
// result. Every request that was admitted with what that step or a later one made findable gives up
// its blocks, its rows in flight count for nothing, and it is computed again to the same tokens; no
// other request notices.
//
// One step ahead: schedule() may be called while steps are in flight (up to steps_in_flight_max).
// A sequence whose sampled token is still in flight decodes on: its worker knows the token. What
// turns out to have finished meanwhile loses its surplus row when the result comes. With more than
// one pipeline stage the first stage does not know it, so such a sequence waits for its token,
// which travels in `known_tokens`, and the decodes are spread over the steps in flight.
//
// Limits: requests_max live requests (then refused with kResourceExhausted), prompt and output
// together at most model_tokens_max, which must fit in the KV cache. Steady decoding allocates no
// memory in schedule(). Threads: one owner. Time passes in.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/options/serve_options.h"
#include "common/status.h"
#include "engine_core/finish_rules.h"
#include "engine_core/kv_cache.h"
#include "engine_core/request.h"
#include "engine_core/step_outputs.h"
#include "proto/add_request.h"
#include "proto/step.h"

namespace trireme::engine {

struct SchedulerConfig {
  uint32_t sequences_max = 256;
  uint32_t batched_tokens_max = 2048;
  uint32_t model_tokens_max = 0;  // At most what the KV cache holds.
  uint32_t requests_max = 65536;
  bool chunked_prefill = true;  // False: a prompt is computed in one step.
  // A prompt with more tokens to compute than this is long, and takes no more of them in one step.
  // 0: long is what does not fit into a step of its own, and a chunk may take all that is left.
  uint32_t long_prefill_tokens = 0;
  // Prompts that are part-way before another one in the order may begin to be so; 0: no limit.
  uint32_t partial_prefills_max = 0;
  uint32_t long_partial_prefills_max = 1;  // Of them long ones, if it is long; 0: no limit.
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  Duration priority_ageing{};  // What waits so long rises by one level; 0: priorities are strict.
  uint32_t draft_tokens_max = 0;  // Of one sequence in a step; 0: nothing is proposed.
  NgramBounds draft_lookup;
  // Not 0: the workers' draft model guesses, for sequences of up to so many tokens; else lookup.
  uint32_t draft_model_tokens_max = 0;
  uint32_t steps_in_flight_max = 2;
  uint32_t pipeline_stages = 1;
  KvCacheOptions kv;
  uint64_t store_slot_bytes = 0;  // Of all workers together.
};

enum class Pause : uint8_t {
  kNone,
  kAll,  // No step is made; requests stay where they are.
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);

  // Takes the request, or answers it at once in `out`: it is refused, or (resumed) it has ended
  // already. A key that is live already is ignored; false then.
  bool add(FrontEndId front_end, wire::AddRequest request, Instant now, StepOutputs& out);
  // Gone at once, without an output. False: not here (any more).
  bool abort(FrontEndId front_end, RequestKey key);
  void abort_front_end(FrontEndId front_end);
  // Every request ends with kAbort, or with kError and `why`, which its front end is told.
  void abort_all(StepOutputs& out);
  void fail_all(const Status& why, StepOutputs& out);

  // The next step, valid until the next call; null when there is nothing to compute now.
  [[nodiscard]] const wire::StepInput* schedule(Instant now);
  // Results come in the order of the steps. Logprobs are moved out of `result`. An error means
  // that the worker's answer does not fit the step: it cannot be trusted further.
  [[nodiscard]] Status on_result(wire::StepResult& result, Instant now, StepOutputs& out);

  void set_pause(Pause pause) { pause_ = pause; }
  // With no step in flight: nobody holds blocks any more. All wait, and are computed again.
  void preempt_all();
  // Of the steps from here on, for workers that compute experts for those of other ranks.
  void set_wave(WaveId wave) { input_.wave = wave; }
  [[nodiscard]] bool reset_prefix_cache() { return kv_.reset_prefix_cache(); }

  [[nodiscard]] uint32_t steps_in_flight() const { return in_flight_count_; }
  [[nodiscard]] std::size_t request_count() const { return by_key_.size(); }
  [[nodiscard]] bool has_requests() const { return !by_key_.empty(); }
  [[nodiscard]] wire::EngineStats stats() const;

  // For tests: requests, slots and blocks add up; O(everything).
  void check_invariants() const;

 private:
  struct QueueOrder {
    bool operator()(const Request* a, const Request* b) const {
      if (a->place != b->place) return a->place < b->place;
      return a->serial < b->serial;
    }
  };
  using Queue = std::set<Request*, QueueOrder>;
  struct Row {
    Request* request;
    uint64_t serial;
    uint32_t start;
    uint32_t count;
    bool is_new;
    bool samples;
    uint32_t restarts = 0;  // Of the request, when the row was made.
    uint32_t draft_count = 0;
    uint32_t draft_begin = 0;  // In the step's drafts.
    bool pools = false;
  };
  struct InFlight {
    StepId step;
    std::vector<Row> rows;
    std::vector<int32_t> drafts;
  };
  struct Address {
    FrontEndId front_end;
    RequestKey key;
    friend bool operator==(const Address&, const Address&) = default;
  };
  struct AddressHash {
    std::size_t operator()(const Address& address) const {
      return std::hash<uint64_t>{}(address.key.value * 257 + address.front_end.value);
    }
  };

  // scheduler.cc: requests come and go.
  [[nodiscard]] Status check_request(const wire::AddRequest& request) const;
  [[nodiscard]] int64_t place_of(const wire::AddRequest& request, Instant now) const;
  Request& new_request();
  void end(Request& request);
  void leave_queues(Request& request);

  // scheduler_queue.cc: who waits, who of them may begin, what is long.
  [[nodiscard]] Queue& queue_of(const Request& request) {
    return request.is_long && !request.was_admitted ? waiting_long_ : waiting_;
  }
  [[nodiscard]] std::size_t waiting_count() const { return waiting_.size() + waiting_long_.size(); }
  [[nodiscard]] uint32_t long_above() const;
  [[nodiscard]] bool may_hit(const Request& request) const;
  [[nodiscard]] bool is_long_now(Request& request) const;
  bool judge_again(Request& request);
  void note_part_way(const Request& request, uint32_t count);
  [[nodiscard]] bool may_be_part_way(const Request& request) const;
  [[nodiscard]] bool may_be_long(const Request& request) const;
  [[nodiscard]] Request* next_waiting();

  // scheduler_step.cc: a step is made.
  void schedule_decodes();
  [[nodiscard]] bool may_decode(const Request& request) const;
  [[nodiscard]] bool make_room(Request& request);
  void preempt(Request& request);
  void schedule_prefills();
  void admit_waiting(Instant now);
  [[nodiscard]] uint32_t first_grant(const Request& request, uint32_t wanted) const;
  void take_in(Request& request, const CachedTokens& cached, Instant now);
  void extend_cut_rows();
  [[nodiscard]] uint32_t grant(uint32_t wanted, bool others_wait) const;
  [[nodiscard]] uint32_t chunk_max() const;
  void add_row(Request& request, uint32_t count, bool is_new);
  const wire::StepInput* build_step();
  void put_row(Row& row);
  void clear_input();

  // scheduler_drafts.cc: speculative decoding.
  [[nodiscard]] bool must_wait_for_tokens() const;
  [[nodiscard]] bool has_draft_model() const { return config_.draft_model_tokens_max > 0; }
  void add_drafts();
  [[nodiscard]] uint32_t drafts_allowed(const Row& row) const;
  [[nodiscard]] uint32_t look_up_drafts(Row& row, uint32_t count_max);
  [[nodiscard]] uint32_t fit_drafts(Row& row, uint32_t count);
  void put_drafts(const Row& row);
  [[nodiscard]] Status check_accepted(const wire::StepResult& result, const InFlight& step) const;
  void count_drafts(const Row& row, uint32_t accepted);

  // scheduler_result.cc: a step's result is taken in.
  [[nodiscard]] Status check_result(const wire::StepResult& result) const;
  [[nodiscard]] Status check_side_rows(const wire::StepResult& result, std::size_t row_count) const;
  void take_store_losses(const wire::StepResult& result);
  void restart(Request& request);
  // `tokens`: what the row gave, the drafts that were accepted first.
  void take_row(const Row& row, std::span<const int32_t> tokens, wire::RowLogprobs* logprobs,
                wire::PooledRow* pooled, Instant now, StepOutputs& out);
  void take_tokens(Request& request, std::span<const int32_t> tokens, wire::RowLogprobs* logprobs,
                   wire::EngineOutput& output);
  void take_pooled(Request& request, wire::PooledRow* pooled, wire::EngineOutput& output,
                   StepOutputs& out);
  void fail_bad_logits(Request& request, StepOutputs& out);
  void take_prompt_logprobs(Request& request, const Row& row, wire::RowLogprobs& logprobs,
                            wire::EngineOutput& output);
  void fail(Request& request, const Status& why, StepOutputs& out);

  SchedulerConfig config_;
  KvCache kv_;
  Pause pause_ = Pause::kNone;
  uint64_t next_serial_ = 1;

  std::vector<std::unique_ptr<Request>> requests_;  // All, in use or not.
  std::vector<Request*> unused_;
  std::unordered_map<Address, Request*, AddressHash> by_key_;
  Queue waiting_;
  Queue waiting_long_;
  uint64_t waiting_tokens_ = 0;    // Of both.
  std::vector<Request*> running_;  // In QueueOrder.
  std::vector<uint32_t> free_slots_;
  std::vector<uint32_t> freed_slots_;  // The workers have not been told yet.

  StepId last_step_{0};
  uint32_t budget_ = 0;
  bool preempted_ = false;                // In the step being made.
  std::vector<const Request*> part_way_;  // Prompts that it leaves so.
  std::vector<Row> rows_;
  uint32_t draft_count_ = 0;     // Of all rows.
  std::vector<int32_t> drafts_;  // Those looked up.
  wire::StepInput input_;
  std::vector<InFlight> in_flight_;  // A ring of steps_in_flight_max.
  uint32_t in_flight_first_ = 0;
  uint32_t in_flight_count_ = 0;
  std::vector<wire::RowLogprobs*> row_logprobs_;
  std::vector<wire::PooledRow*> row_pooled_;
  std::vector<int32_t> row_tokens_;  // Of the row being taken in.

  wire::EngineStats counters_;
};

}  // namespace trireme::engine
