// Model: the forward pass of one rank's share (TP slice, PP stage) of a network over paged KV
// memory.
//
// A forward takes a flat batch of tokens from several sequences ("rows") and
//   1. appends K and V of every token to the row's KV blocks,
//   2. lets each token attend to all earlier positions of its own row,
//   3. gives logits for the tokens asked for, or their last hidden states.
// Bits do not depend on company: every output element is reduced in an order that depends on the
// model's shape alone, never on which other rows or tokens are in the batch or how a prompt was cut
// into chunks.
//
// Threads: one thread calls; inside, the model spreads work over its own thread pool.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/status.h"

namespace trireme::worker {

struct ForwardRow {
  uint32_t token_begin = 0;  // Into ForwardBatch::tokens.
  uint32_t token_count = 0;
  uint32_t start = 0;  // Position of the row's first token: earlier ones have KV already.
  std::span<const int32_t> blocks;  // Block table: covers positions [0, start + token_count).
};

struct ForwardBatch {
  std::span<const int32_t> tokens;     // [token_count]
  std::span<const int32_t> positions;  // [token_count]
  std::span<const ForwardRow> rows;    // In order, covering all tokens.
  std::span<const uint32_t>
      logits_tokens;  // Ascending indices into tokens whose logits are wanted.
  // Likewise of those whose hidden state after the final norm is wanted, which is written to
  // `features`, [feature_tokens.size(), hidden] fp32. Both empty but on the last stage.
  std::span<const uint32_t> feature_tokens;
  std::span<float> features;
};

struct KvShape {
  uint32_t block_tokens = 16;
  uint64_t block_bytes = 0;  // K and V of one block over all of this rank's layers.
};

class Model {
 public:
  virtual ~Model() = default;

  [[nodiscard]] virtual uint64_t weight_bytes() const = 0;
  [[nodiscard]] virtual uint32_t vocabulary_size() const = 0;
  [[nodiscard]] virtual uint32_t hidden_size() const = 0;
  [[nodiscard]] virtual KvShape kv_shape() const = 0;
  // Tokens see those after them too: all of a sequence's are in one forward.
  [[nodiscard]] virtual bool needs_whole_prompts() const { return false; }

  // Once, before the first forward; kResourceExhausted with both sizes when the memory is not
  // there.
  [[nodiscard]] virtual Status allocate_kv(uint32_t block_count) = 0;
  // Between forwards: what is in all blocks is lost, and their memory goes back to the system until
  // it is written again.
  virtual void release_kv() = 0;
  // Between forwards: all that is in a block, kv_shape().block_bytes of it. What came out of one
  // block may go into any.
  virtual void copy_block_out(uint32_t block, std::span<std::byte> to) const = 0;
  virtual void copy_block_in(uint32_t block, std::span<const std::byte> from) = 0;

  // hidden_in:  [token_count, hidden] fp32 from the stage before; empty on the first stage.
  // hidden_out: [token_count, hidden] fp32 for the stage after; empty on the last stage.
  // logits:     [logits_tokens.size(), vocabulary] fp32, whole vocabulary on every TP rank; last
  // stage only.
  [[nodiscard]] virtual Status forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                                       std::span<float> hidden_out, std::span<float> logits) = 0;
  // A forward without tokens: computes its experts for the other members of its wave, and nothing
  // where experts are not divided.
  [[nodiscard]] virtual Status run_experts_for_others() { return absl::OkStatus(); }
  // Layers of this stage that have experts.
  [[nodiscard]] virtual uint32_t mixture_layer_count() const { return 0; }

 protected:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
};

}  // namespace trireme::worker
