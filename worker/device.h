// Device: where a model computes. Model files are written once against this interface; the CPU
// backend (worker/kernels/cpu) is one implementation, a CUDA backend another.
//
// Loading: weights come as slices of the checkpoint in host memory and become opaque handles in
// whatever form the device likes best (the CPU packs matrices by columns).
//
// Running: begin_step() hands the device one batch; the operators that depend on it (embed, rotary,
// append_kv, attention) refer to that batch until end_step(). Operators are queued in order and
// return nothing: an error (a broken collective, a device fault) is kept and comes out of
// end_step(), after which the step's results mean nothing. A View is device memory: only
// write_from(), read_back() and logits() cross to the host.
//
// Bits: each output element is reduced in an order that depends on the shapes of the model alone,
// never on the other tokens or rows of the batch. Every implementation keeps this.
//
// Threads: one thread calls everything.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "common/status.h"
#include "worker/device_types.h"
#include "worker/models/model.h"

namespace trireme::worker {

class QuantizedMatrix;  // worker/weights/quantized_matrix.h

// A rectangle of a checkpoint tensor in host memory, row-major unless column_stride says otherwise.
struct MatrixSlice {
  const void* data = nullptr;
  Element element = Element::kFloat32;
  uint64_t row_stride = 0;  // In elements.
  uint32_t row_count = 0;
  uint32_t column_count = 0;
  uint64_t column_stride = 1;  // In elements; not 1: the checkpoint keeps the transpose.
  // Not null: a rectangle of this one, from (row_begin, column_begin) on; then data is null.
  std::shared_ptr<const QuantizedMatrix> quantized = nullptr;
  uint32_t row_begin = 0;
  uint32_t column_begin = 0;
};

// What a vector is made of: parts of one row each, one after the other.
struct VectorSource {
  std::vector<MatrixSlice> parts;
  float added = 0.0F;            // To each value, in fp32: some norms store weight - 1.
  bool keeps_precision = false;  // As stored, whatever the model computes in.
};

// How far quantising on load may go: it is what the answer hangs on most that stays wider.
enum class Narrowest {
  kInt4,
  kInt8,  // The head.
  kAsIs,  // A router, what takes a latent cache apart.
};

// What a linear layer is made of: `parts` stacked by rows (q, k and v make one matrix), one bias
// per part or none at all.
struct LinearSource {
  std::vector<MatrixSlice> parts;
  std::vector<MatrixSlice> biases;  // Each [1][rows of its part].
  // Rows, padded with zeros: for a vocabulary that does not divide evenly. 0: as many as the parts.
  uint32_t row_count = 0;
  Narrowest narrowest = Narrowest::kInt4;
  bool is_apart = false;  // In memory of its own, that goes with it.
};

// y = x · Wᵀ + b, in the device's own form.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  [[nodiscard]] virtual uint32_t out_features() const = 0;
  [[nodiscard]] virtual uint32_t in_features() const = 0;
  [[nodiscard]] virtual uint64_t bytes() const = 0;
};

// One value per column (norm weights).
class VectorWeight {
 public:
  virtual ~VectorWeight() = default;
  [[nodiscard]] virtual uint64_t bytes() const = 0;
};

// A table of rows that tokens pick. The CPU reads the rows of a packed matrix, or the checkpoint's
// own pages, shared by all processes that map the file: then the checkpoint must stay mapped as
// long as the table lives.
class EmbeddingWeight {
 public:
  virtual ~EmbeddingWeight() = default;
  [[nodiscard]] virtual uint64_t bytes() const = 0;
};

struct KvLayout {
  Element element = Element::kBfloat16;
  uint32_t layer_count = 0;
  uint32_t kv_head_count = 0;
  uint32_t head_size = 0;
  uint32_t block_tokens = 16;
  // Not 0: a latent cache, of one head: K alone is kept, V being its first columns, so many.
  uint32_t value_size = 0;
};

// Angle of pair i at position p: p · inverse_frequency[i]. A function of the position alone, so
// that a token's K does not depend on when it was computed.
struct RotaryAngles {
  // [token_count][rotary_size / 2] each, already scaled by the attention factor.
  std::span<const float> cosines;
  std::span<const float> sines;
  uint32_t rotary_size = 0;  // Leading part of each head that turns, pairs (i, i + size / 2).
};

// Called again and again while something is read that may take long.
using OnPiece = std::function<void()>;

// One expert of a mixture: down(activation(gate) · up). Or how to load it, apart, where another
// worker has it: a device does so when it has to take it over.
struct ExpertWeights {
  std::unique_ptr<LinearWeight> gate_up;
  std::unique_ptr<LinearWeight> down;
  std::function<StatusOr<ExpertWeights>(const OnPiece& on_piece)> load;
};

inline constexpr uint32_t kExpertsMax = 1024;

enum class ExpertScore : uint8_t { kSoftmax, kSigmoid };  // Softmax over all experts.
enum class GroupScore : uint8_t { kLargest, kTopTwo };    // Its largest, or the sum of two.

// How router logits choose the experts of a token: those of the largest scores. A bias per expert,
// where there is one, is added to the scores for the choice, but not to the weights.
struct Routing {
  uint32_t experts_per_token = 0;
  ExpertScore score = ExpertScore::kSoftmax;
  bool renormalises = false;  // The scores of those chosen are made to sum to 1,
  float scale = 1.0F;         // and then all become weights times this.
  // Equal groups of neighbouring experts; only those of the best groups can be chosen.
  uint32_t group_count = 1;
  uint32_t groups_per_token = 1;
  GroupScore group_score = GroupScore::kLargest;
};

// Which experts each token goes through, `per_token` entries each, in the order of the experts. In
// device memory, valid until the next ones are chosen.
struct ExpertChoices {
  uint32_t per_token = 0;
  std::span<const uint32_t> experts;
  std::span<const float> weights;
};

class Device {
 public:
  virtual ~Device() = default;

  // --- Loading. kResourceExhausted when the memory is not there. ---
  [[nodiscard]] virtual StatusOr<std::unique_ptr<LinearWeight>> load_linear(
      const LinearSource& source) = 0;
  [[nodiscard]] virtual StatusOr<std::unique_ptr<VectorWeight>> load_vector(
      const VectorSource& source) = 0;
  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> load_vector(const MatrixSlice& values) {
    return load_vector(VectorSource{.parts = {values}});
  }
  [[nodiscard]] virtual StatusOr<std::unique_ptr<EmbeddingWeight>> load_embedding(
      const MatrixSlice& table) = 0;
  // The rows of a matrix that is loaded, with not a bit changed: an embedding that is the head too
  // takes no memory of its own. Null where the device's form of the matrix does not allow it.
  [[nodiscard]] virtual std::unique_ptr<EmbeddingWeight> embedding_of(
      const LinearWeight& matrix) const = 0;
  [[nodiscard]] virtual uint64_t kv_block_bytes(const KvLayout& layout) const = 0;
  [[nodiscard]] virtual Status allocate_kv(const KvLayout& layout, uint32_t block_count) = 0;
  // Between steps: what is in it is lost. Memory comes again as it is written.
  virtual void release_kv() = 0;
  // Between steps: kv_block_bytes() of a block, in the device's own form.
  virtual void copy_kv_block_out(uint32_t block, std::span<std::byte> to) const = 0;
  virtual void copy_kv_block_in(uint32_t block, std::span<const std::byte> from) = 0;

  // --- One step. The spans of the batch and the angles stay valid until end_step(). ---
  virtual void begin_step(const ForwardBatch& batch, const RotaryAngles& angles) = 0;
  [[nodiscard]] virtual Status end_step() = 0;
  // The angles of the rotary() calls from here to the end of the step: where layers differ in them.
  virtual void use_angles(const RotaryAngles& angles) = 0;

  // Memory of `slot`, at least this large; valid until the same slot is asked for more. It grows
  // to the largest step seen, so a running model allocates nothing.
  [[nodiscard]] virtual View scratch(uint32_t slot, uint32_t row_count, uint32_t column_count) = 0;
  virtual void write_from(std::span<const float> host, const View& to) = 0;
  virtual void read_back(const View& from, std::span<float> host) = 0;

  // --- Operators. ---
  virtual void embed(const EmbeddingWeight& table, const View& out) = 0;
  virtual void linear(const LinearWeight& weight, const View& x, const View& out) = 0;
  // out = x / rms(x) · weight, row by row.
  virtual void rms_norm(const View& x, const VectorWeight& weight, float epsilon,
                        const View& out) = 0;
  // x += delta, then as rms_norm.
  virtual void add_rms_norm(const View& x, const View& delta, const VectorWeight& weight,
                            float epsilon, const View& out) = 0;
  // Normalises each head of head_size columns by itself, in place.
  virtual void head_rms_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                             float epsilon) = 0;
  // As head_rms_norm, over one row that the tensor-parallel ranks hold in equal parts: x and weight
  // are this rank's.
  virtual void wide_rms_norm(const View& x, const VectorWeight& weight, float epsilon) = 0;
  // out = (x - mean) / deviation · weight + bias, row by row; bias may be null.
  virtual void layer_norm(const View& x, const VectorWeight& weight, const VectorWeight* bias,
                          float epsilon, const View& out) = 0;
  // Each head of head_size columns by itself, in place; the weight has a value for every column.
  virtual void head_layer_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                               float epsilon) = 0;
  virtual void add(const View& x, const View& delta) = 0;  // x += delta
  virtual void scale(const View& x, float factor) = 0;     // x *= factor
  // Adds the row of each token's position.
  virtual void add_positions(const EmbeddingWeight& table, const View& x) = 0;
  virtual void rotary(const View& heads, uint32_t head_size) = 0;  // In place.
  virtual void append_kv(uint32_t layer, const View& k, const View& v) = 0;
  // rotary(q_and_k), then append_kv with its k, in one pass.
  virtual void rotate_and_append(uint32_t layer, uint32_t head_size, const View& q_and_k,
                                 const View& k, const View& v) = 0;
  // Each token over all positions of its row up to its own, or to the row's last one.
  virtual void attention(uint32_t layer, const AttentionShape& shape, const View& q,
                         const View& out) = 0;
  // Of a latent cache: what it keeps of a token is [value | rest].
  virtual void append_latent(uint32_t layer, const View& value, const View& rest) = 0;
  // Each token over all positions of its row up to its own: the score of a head is that of
  // [q | q_rest] with what is kept, its output the weighted sum of the values. out may be q.
  virtual void attend_latent(uint32_t layer, uint32_t head_count, float scale, const View& q,
                             const View& q_rest, const View& out) = 0;
  // Each head's columns of x through a layer of its own, all of the same shape, without biases,
  // whose precision was kept.
  virtual void linear_by_head(std::span<const std::unique_ptr<LinearWeight>> heads, const View& x,
                              const View& out) = 0;
  // out = down(activation(gate) · up) with gate_up = [gate | up]; a gate_up as wide as what down
  // takes has no gate.
  virtual void feed_forward(Activation activation, const LinearWeight& gate_up,
                            const LinearWeight& down, const View& x, const View& out) = 0;
  virtual void activate(Activation activation, const View& x) = 0;  // In place.
  // bias: one value per expert, or null. Each row by itself.
  [[nodiscard]] virtual ExpertChoices choose_experts(const Routing& routing,
                                                     const VectorWeight* bias,
                                                     const View& router_logits) = 0;
  // Each row of x goes through the experts chosen for it; out is their weighted sum, taken in the
  // order of the experts. Where experts are divided over the members of a wave all of them call
  // this, with no rows too, and the sum of a row is on one of its tensor-parallel ranks, 0 on the
  // others. A wave that is left is no error: its exchange says so (comm/expert_exchange.h).
  virtual void run_experts(Activation activation, std::span<const ExpertWeights> experts,
                           const ExpertChoices& choices, const View& x, const View& out) = 0;
  // x += sigmoid(gate) · delta; gate has one column.
  virtual void add_gated(const View& x, const View& gate, const View& delta) = 0;
  virtual void gather_rows(const View& x, std::span<const uint32_t> row_indices,
                           const View& out) = 0;
  // Sum over the tensor-parallel ranks, in rank order; nothing to do in a group of one.
  virtual void all_reduce(const View& x) = 0;
  // out = x · Wᵀ in host memory, [x rows][vocabulary]. With tensor parallelism each rank's weight
  // is its part of the vocabulary (the last one padded) and the parts are gathered.
  virtual void logits(const LinearWeight& weight, const View& x, uint32_t vocabulary,
                      std::span<float> out) = 0;
  // What logits() gave, each value v becoming cap · tanh(v / cap).
  virtual void cap_logits(float cap, std::span<float> logits) = 0;

 protected:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
};

}  // namespace trireme::worker
