// StepInput and StepResult: what an engine tells its workers to compute, and what comes back.
//
// A worker keeps, per slot, everything about a running sequence (tokens, block table, sampling
// state), so a step carries only what changed. All ranks of a TP x PP group get the same bytes. Row
// arrays are parallel: row i is row_slot[i], row_start[i], row_count[i], ...; token and block lists
// are flat, cut by the per-row counts.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/engine_outputs.h"
#include "proto/expert_table.h"
#include "proto/kind.h"
#include "proto/sampling_params.h"

namespace trireme::wire {

// kDummy: no rows; the ranks of a wave compute their experts for each other. kAgain: nothing in it
// but its kind and wave; the step before, which had been abandoned, once more in the wave joined
// since.
enum class StepKind : uint8_t { kRun = 0, kDummy = 1, kAgain = 2 };

// A sequence takes a slot: newly admitted, or back after preemption. Whatever held the slot is
// gone.
struct NewSequence {
  SlotId slot;
  std::vector<int32_t> token_ids;  // Prompt, then output so far.
  uint32_t prompt_count = 0;       // How many of them are prompt.
  std::vector<int32_t> block_ids;  // Its block table so far; the rows of this step may append.
  SamplingParams sampling;

  static auto fields(auto& m) {
    return std::tie(m.slot, m.token_ids, m.prompt_count, m.block_ids, m.sampling);
  }
  friend bool operator==(const NewSequence&, const NewSequence&) = default;
};

inline constexpr uint8_t kRowSamples =
    1;  // Bit of row_flags: the row's last token yields a new token, or the pooled vector.

struct StepInput {
  static constexpr MessageKind kKind = MessageKind::kStepInput;
  static constexpr uint8_t kVersion = 5;
  static constexpr uint8_t kCompat = 1;

  StepId step;
  Epoch epoch;
  WaveId wave;
  StepKind kind = StepKind::kRun;
  std::vector<uint32_t> freed_slots;  // Applied first.
  std::vector<NewSequence> new_sequences;
  std::vector<uint32_t> row_slot;
  std::vector<uint32_t>
      row_start;  // Position of the first token computed = tokens with KV already.
  std::vector<uint32_t> row_count;  // Tokens computed by this row, at least 1.
  std::vector<uint8_t> row_flags;
  // Tokens that the engine knows and the worker may not (it did not sample them: another PP stage
  // did). They extend the slot's tokens at position row_known_start; a worker that has them already
  // ignores them.
  std::vector<uint32_t> row_known_start;
  std::vector<uint32_t> row_known_count;
  std::vector<int32_t> known_tokens;      // Flat.
  std::vector<uint32_t> row_block_count;  // New blocks appended to the slot's table.
  std::vector<int32_t> blocks;            // Flat.
  // Guesses at the tokens after a row that samples, computed behind its row_count in the same
  // forward. A guess counts only where it is the very token that sampling picks there. Both empty:
  // no row has any. Who ignores them is right too, only slower. Since version 2.
  std::vector<uint32_t> row_draft_count;
  // Flat. Empty where there are counts: the workers have a draft model that guesses so many. Since
  // version 5.
  std::vector<int32_t> draft_tokens;
  // With a store behind the KV cache, before the forward: what is in save_blocks[i] goes into slot
  // save_slots[i] of the worker's store, and then what is in slot load_slots[i] into
  // load_blocks[i]. Since version 4.
  std::vector<int32_t> save_blocks;
  std::vector<uint32_t> save_slots;
  std::vector<int32_t> load_blocks;
  std::vector<uint32_t> load_slots;

  static auto fields(auto& m) {
    return std::tie(m.step, m.epoch, m.wave, m.kind, m.freed_slots, m.new_sequences, m.row_slot,
                    m.row_start, m.row_count, m.row_flags, m.row_known_start, m.row_known_count,
                    m.known_tokens, m.row_block_count, m.blocks, m.row_draft_count, m.draft_tokens,
                    m.save_blocks, m.save_slots, m.load_blocks, m.load_slots);
  }
  friend bool operator==(const StepInput&, const StepInput&) = default;
};

// Logprobs of one row, only where the sequence asked for them.
struct RowLogprobs {
  uint32_t row = 0;
  std::vector<TokenLogprobs> sampled;  // One per token the row got: accepted drafts, row_token.
  std::vector<TokenLogprobs> prompt;   // Of the prompt tokens that this row's positions predict.

  static auto fields(auto& m) { return std::tie(m.row, m.sampled, m.prompt); }
  friend bool operator==(const RowLogprobs&, const RowLogprobs&) = default;
};

// What the sequence of one row was pooled to, in the row that samples.
struct PooledRow {
  uint32_t row = 0;
  std::vector<float> values;  // [hidden_size], not normalised.

  static auto fields(auto& m) { return std::tie(m.row, m.values); }
  friend bool operator==(const PooledRow&, const PooledRow&) = default;
};

// Where experts are placed by load: of the worker that answers. Counters only grow.
struct ExpertLoad {
  uint64_t rows = 0;   // Its experts computed; a row counts once for each of its experts.
  uint64_t moves = 0;  // Experts that came to it, over all layers.
  // Rows of the mean worker over those of the busiest one, layer by layer, in the window before the
  // last agreement; 0: nobody knows yet.
  float balancedness = 0;

  static auto fields(auto& m) { return std::tie(m.rows, m.moves, m.balancedness); }
  friend bool operator==(const ExpertLoad&, const ExpertLoad&) = default;
};

inline constexpr int32_t kNoToken = -1;  // The row does not sample, or it pools.
// NaN: this sequence fails, the others go on. A step made before the engine knows may still have a
// row for it: the worker runs that on any token, and its result is ignored.
inline constexpr int32_t kBadLogits = -2;

struct StepResult {
  static constexpr MessageKind kKind = MessageKind::kStepResult;
  static constexpr uint8_t kVersion = 8;
  static constexpr uint8_t kCompat = 1;

  StepId step;
  std::vector<int32_t> row_token;  // Parallel to StepInput's rows.
  std::vector<RowLogprobs> logprobs;
  uint32_t compute_microseconds = 0;
  std::string error;  // Not empty: the whole step failed, and so has the worker.
  // How many of the row's drafts sampling picked too; row_token comes after them. Empty: none of
  // any row. Since version 2.
  std::vector<uint32_t> row_accepted;
  std::vector<PooledRow> pooled;  // Since version 3.
  // Of the worker's store: a save to it or a load from it failed, and it holds nothing now. Since
  // version 4.
  std::vector<uint32_t> lost_slots;
  // Loads that failed: what this step and those after it computed on such a block is wrong. Since
  // version 4.
  uint32_t failed_load_count = 0;
  // Flat, by row_accepted: which tokens they are, where the worker's own draft model guessed them.
  // Since version 5.
  std::vector<int32_t> accepted_tokens;
  // The wave was left while it ran: nothing came of it, and the worker keeps it until it is wanted
  // again or another comes. Since version 6.
  bool is_abandoned = false;
  std::optional<ExpertLoad> expert_load;  // Since version 7.
  // The answer to TellExperts, with step 0. Since version 8.
  std::optional<ExpertTable> expert_table;

  static auto fields(auto& m) {
    return std::tie(m.step, m.row_token, m.logprobs, m.compute_microseconds, m.error,
                    m.row_accepted, m.pooled, m.lost_slots, m.failed_load_count, m.accepted_tokens,
                    m.is_abandoned, m.expert_load, m.expert_table);
  }
  friend bool operator==(const StepResult&, const StepResult&) = default;
};

// Worker -> engine, once, when the weights are there.
struct WorkerReady {
  static constexpr MessageKind kKind = MessageKind::kWorkerReady;
  static constexpr uint8_t kVersion = 3;
  static constexpr uint8_t kCompat = 1;

  uint32_t rank = 0;  // tp_rank + tp_size * pp_rank
  uint32_t pid = 0;
  uint64_t weight_bytes = 0;
  uint64_t block_bytes = 0;   // Of one KV block on this worker.
  uint64_t kv_bytes_max = 0;  // What it may use for KV under its memory flags.
  uint32_t load_milliseconds = 0;
  std::string error;  // Not empty: could not start; this is what the user must read.
  // Attention goes both ways: a prompt is computed in one step, whole. Since version 2.
  bool needs_whole_prompts = false;
  // Where it takes rows for its experts from workers of other nodes; empty: nowhere. Since version
  // 3.
  std::string expert_endpoint;

  static auto fields(auto& m) {
    return std::tie(m.rank, m.pid, m.weight_bytes, m.block_bytes, m.kv_bytes_max,
                    m.load_milliseconds, m.error, m.needs_whole_prompts, m.expert_endpoint);
  }
  friend bool operator==(const WorkerReady&, const WorkerReady&) = default;
};

// Engine -> workers, once, after every WorkerReady: allocate this many blocks. Answered by a
// StepResult with step 0 (error set when the memory could not be had).
struct KvInit {
  static constexpr MessageKind kKind = MessageKind::kKvInit;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  uint32_t block_count = 0;
  uint32_t store_slot_count = 0;  // Blocks in the store behind them; 0: none. Since version 2.

  static auto fields(auto& m) { return std::tie(m.block_count, m.store_slot_count); }
  friend bool operator==(const KvInit&, const KvInit&) = default;
};

// Engine -> workers, before the first step of a wave: who computes which experts in it. Not
// answered.
struct JoinWave {
  static constexpr MessageKind kKind = MessageKind::kJoinWave;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  WaveId wave;
  std::vector<uint32_t> ranks;  // Data-parallel ranks, ascending; the engine's own is among them.
  // Where the workers of ranks on other nodes take rows, by rank and then by worker; empty for
  // those of this node, or no list at all where all are.
  std::vector<std::string> endpoints;

  static auto fields(auto& m) { return std::tie(m.wave, m.ranks, m.endpoints); }
  friend bool operator==(const JoinWave&, const JoinWave&) = default;
};

// Engine -> workers, between steps: nothing in KV memory is needed any more, and the memory goes
// back to the system until it is written again. Answered by a StepResult with step 0.
struct ReleaseKv {
  static constexpr MessageKind kKind = MessageKind::kReleaseKv;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  uint8_t reserved = 0;

  static auto fields(auto& m) { return std::tie(m.reserved); }
  friend bool operator==(const ReleaseKv&, const ReleaseKv&) = default;
};

struct StopWorker {
  static constexpr MessageKind kKind = MessageKind::kStopWorker;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  uint8_t reserved = 0;

  static auto fields(auto& m) { return std::tie(m.reserved); }
  friend bool operator==(const StopWorker&, const StopWorker&) = default;
};

}  // namespace trireme::wire
