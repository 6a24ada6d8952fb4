// EngineOutputs: engine core -> one front end: what its requests got in one step, and the engine's
// load. EngineReady: the first message of an engine on a front end's ROUTER.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/kind.h"

namespace trireme::wire {

enum class FinishReason : uint8_t {
  kNone = 0,
  kStop = 1,
  kLength = 2,
  kAbort = 3,
  kError = 4,
};

// What one position's distribution looked like: entry 0 is the chosen (or prompt) token, then the
// most likely ones in falling order (the chosen one again if it is among them).
struct TokenLogprobs {
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;  // Natural logarithm, of the raw distribution.
  int32_t rank = 0;             // Of the chosen token; 1 is the most likely.

  static auto fields(auto& m) { return std::tie(m.token_ids, m.logprobs, m.rank); }
  friend bool operator==(const TokenLogprobs&, const TokenLogprobs&) = default;
};

struct EngineOutput {
  RequestKey key;
  std::vector<int32_t> token_ids;  // New since the last output.
  FinishReason finish_reason = FinishReason::kNone;
  std::optional<int32_t> stop_token_id;  // The client's stop token that ended it.
  std::vector<TokenLogprobs> logprobs;   // One per new token, if asked for.
  // From the prompt's second token on; in slices, in order.
  std::vector<TokenLogprobs> prompt_logprobs;
  uint32_t cached_prompt_tokens = 0;  // Valid in the first output.
  uint32_t preemptions = 0;           // So far.
  uint32_t queue_microseconds = 0;    // Waited before first scheduled; in the first output.
  std::string error;                  // With kError: what the client is told.
  uint8_t error_code = 0;  // With kError: the absl::StatusCode. kUnavailable: another engine may
                           // take it; kInvalidArgument: the client must change it.
  uint32_t prefill_microseconds = 0;  // From first scheduled to the first token; in its output.
  // What the prompt was pooled to, as the model gives it: not normalised. With the finish reason.
  // Since version 4 of EngineOutputs.
  std::vector<float> pooled;

  static auto fields(auto& m) {
    return std::tie(m.key, m.token_ids, m.finish_reason, m.stop_token_id, m.logprobs,
                    m.prompt_logprobs, m.cached_prompt_tokens, m.preemptions, m.queue_microseconds,
                    m.error, m.error_code, m.prefill_microseconds, m.pooled);
  }
  friend bool operator==(const EngineOutput&, const EngineOutput&) = default;
};

// What a step that is late is at, as far as anybody can see.
enum class StallPhase : uint8_t {
  kUnknown = 0,   // Its workers are out of sight, or say nothing.
  kQueue = 1,     // A worker has not taken the step, or no wave starts.
  kExchange = 2,  // The ranks of a wave agree on a step; in no worker yet.
  kDispatch = 3,  // Rows go to experts of other ranks.
  kExpert = 4,    // Experts compute.
  kCombine = 5,   // What experts of other ranks gave comes back.
  kSample = 6,    // Tokens are drawn.
  kAttention = 7,
  kMlp = 8,
  kReduce = 9,  // A sum over tensor-parallel ranks.
  kLogits = 10,
  kStage = 11,        // A wait for another pipeline stage.
  kStart = 12,        // A worker takes in what the step says.
  kResult = 13,       // The workers are done with it, or say so.
  kLoadExperts = 14,  // A worker reads experts that it takes over from the checkpoint.
};

// What holds a step up: a rank that is awaited, or a worker of the engine's own.
struct Stall {
  static constexpr std::size_t kAwaitedRanksMax = 16;

  StallPhase phase{};
  Epoch epoch;        // Of the view that the wave was made from; 0: the rank steps alone.
  uint64_t step = 0;  // Of the wave; of the engine, where it steps alone.
  std::vector<uint32_t> awaited_ranks;  // Not come, at most kAwaitedRanksMax of them.
  uint32_t worker_pid = 0;              // Of the engine's worker that is behind; 0: none known.
  uint32_t milliseconds = 0;            // It had lasted when this was told.

  static auto fields(auto& m) {
    return std::tie(m.phase, m.epoch, m.step, m.awaited_ranks, m.worker_pid, m.milliseconds);
  }
  friend bool operator==(const Stall&, const Stall&) = default;
};

enum class Stepping : uint8_t {
  kAlone = 0,
  kAsleep = 1,  // In a group, between waves.
  kInWave = 2,
};
enum class HeldPause : uint8_t { kNone = 0, kWait = 1, kKeep = 2, kAbort = 3 };

// Where an engine stands, for people (`trireme top`). Told when it changes.
struct EngineStanding {
  Stepping stepping{};
  HeldPause pause{};
  std::optional<Stall> stall;  // A step is late.

  static auto fields(auto& m) { return std::tie(m.stepping, m.pause, m.stall); }
  friend bool operator==(const EngineStanding&, const EngineStanding&) = default;
};

// More draft tokens than this are never proposed at once.
inline constexpr uint32_t kDraftTokensMax = 16;

// The engine's load as it stands after the step. Counters only grow within one incarnation.
struct EngineStats {
  uint32_t waiting = 0;
  uint32_t running = 0;
  float kv_usage = 0;  // Share of blocks that hold live sequences, in [0, 1].
  StepId step;
  WaveId wave;
  uint64_t prefix_query_tokens = 0;
  uint64_t prefix_hit_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generation_tokens = 0;
  uint64_t prefill_tokens_waiting = 0;  // Prompt tokens queued and not yet computed.
  // Speculative decoding, since version 3 of EngineOutputs. A draft is what was proposed for one
  // sequence in one step.
  uint64_t drafts = 0;
  uint64_t draft_tokens = 0;
  uint64_t accepted_draft_tokens = 0;
  std::array<uint64_t, kDraftTokensMax> accepted_at_position{};  // In the draft.
  // The store behind the KV cache, since version 5 of EngineOutputs. Prompt tokens looked up in it
  // (those that the cache did not have) and found.
  uint64_t store_query_tokens = 0;
  uint64_t store_hit_tokens = 0;
  uint64_t store_bytes = 0;        // Held, by all workers together.
  uint64_t store_lost_blocks = 0;  // Could not be written or read.
  // Since version 6 of EngineOutputs: ended because their logits were not numbers.
  uint64_t corrupted_requests = 0;
  // Since version 7 of EngineOutputs: what holds the step up, for people, where it is late.
  std::string stall;
  // With --enable-eplb, since version 8 of EngineOutputs; of all its workers.
  uint64_t expert_rows = 0;   // Their experts computed; a row counts once for each of its experts.
  uint64_t expert_moves = 0;  // Experts that came to one of them, over all layers.
  // Rows of the mean worker of a wave over those of the busiest one, in the last stage; 0: not
  // known.
  float expert_balancedness = 0;
  // Since version 8 of EngineOutputs.
  EngineStanding standing;

  static auto fields(auto& m) {
    return std::tie(m.waiting, m.running, m.kv_usage, m.step, m.wave, m.prefix_query_tokens,
                    m.prefix_hit_tokens, m.preemptions, m.prompt_tokens, m.generation_tokens,
                    m.prefill_tokens_waiting, m.drafts, m.draft_tokens, m.accepted_draft_tokens,
                    m.accepted_at_position, m.store_query_tokens, m.store_hit_tokens, m.store_bytes,
                    m.store_lost_blocks, m.corrupted_requests, m.stall, m.expert_rows,
                    m.expert_moves, m.expert_balancedness, m.standing);
  }
  friend bool operator==(const EngineStats&, const EngineStats&) = default;
};

// A shared-memory queue between an engine and its workers: all its rings together. Counters only
// grow within one incarnation.
struct ShmQueueStats {
  uint64_t messages = 0;
  uint64_t bytes = 0;
  uint64_t oversize_messages = 0;  // Larger than a slot: they went in several chunks.
  uint64_t writer_waits = 0;       // For a slot: a reader was a full ring behind.
  uint64_t writer_parks = 0;       // Of those, slept.
  uint64_t reader_parks = 0;       // Slept until a message came.
  uint64_t chunks_waiting = 0;     // That the slowest reader of the fullest ring has still to take.
  uint64_t chunks_max = 0;         // As many are taken before the writer waits.

  static auto fields(auto& m) {
    return std::tie(m.messages, m.bytes, m.oversize_messages, m.writer_waits, m.writer_parks,
                    m.reader_parks, m.chunks_waiting, m.chunks_max);
  }
  friend bool operator==(const ShmQueueStats&, const ShmQueueStats&) = default;
};

struct ShmStats {
  ShmQueueStats steps;    // Engine -> workers.
  ShmQueueStats results;  // Workers -> engine.

  static auto fields(auto& m) { return std::tie(m.steps, m.results); }
  friend bool operator==(const ShmStats&, const ShmStats&) = default;
};

struct EngineOutputs {
  static constexpr MessageKind kKind = MessageKind::kEngineOutputs;
  static constexpr uint8_t kVersion = 8;
  static constexpr uint8_t kCompat = 1;

  EngineId engine;
  Incarnation incarnation;
  // AddRequests taken from this front end so far: what the front end sent beyond this number is not
  // in `stats` yet and counts as waiting.
  uint64_t requests_received = 0;
  EngineStats stats;
  std::vector<EngineOutput> outputs;
  uint64_t connection = 0;      // That of the EngineReady before it.
  uint64_t sequence = 0;        // Of this connection: 1, 2, … A gap is a loss.
  std::optional<ShmStats> shm;  // Now and then, as it changes slowly. Since version 2.

  static auto fields(auto& m) {
    return std::tie(m.engine, m.incarnation, m.requests_received, m.stats, m.outputs, m.connection,
                    m.sequence, m.shm);
  }
  friend bool operator==(const EngineOutputs&, const EngineOutputs&) = default;
};

struct EngineReady {
  static constexpr MessageKind kKind = MessageKind::kEngineReady;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  EngineId engine;
  Incarnation incarnation;
  uint32_t block_count = 0;
  uint32_t block_tokens = 0;
  uint32_t model_tokens_max = 0;    // Prompt and output together.
  uint32_t sequences_max = 0;       // Running at once.
  uint32_t batched_tokens_max = 0;  // In one step.
  // Of this life with this front end. Another number than before: what was in flight on the broken
  // one may be lost, and the engine has given up the requests it had from there.
  uint64_t connection = 0;
  uint64_t outputs_sent = 0;  // The sequence of the EngineOutputs before it.

  static auto fields(auto& m) {
    return std::tie(m.engine, m.incarnation, m.block_count, m.block_tokens, m.model_tokens_max,
                    m.sequences_max, m.batched_tokens_max, m.connection, m.outputs_sent);
  }
  friend bool operator==(const EngineReady&, const EngineReady&) = default;
};

}  // namespace trireme::wire
