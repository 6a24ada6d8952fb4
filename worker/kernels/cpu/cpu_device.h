// CpuDevice: the Device of a set of CPU cores.
//
// Activations are fp32. With bf16 weights a matrix product rounds its input rows to bf16 and adds
// in fp32 (one rounding per layer boundary where PyTorch rounds every result); with fp32 weights
// nothing is rounded. With int8 and int4 weights they become int8 codes with a scale for each row,
// or each group of a row. K and V are kept in the element of the KvLayout. Work is cut over output
// columns, rows, tokens and heads, never along a sum; small work stays in the caller's thread.
// Operators run at once, so end_step() only reports. In a wave of several members a mixture goes
// through their exchange: then every expert is whole, and of the rows that the tensor-parallel
// ranks all have each sends those of every size-th position, so that it depends on a token alone
// which rank adds what. Threads: one thread calls; the pool works inside. Pool, collective and
// exchange outlive the device.
#pragma once

#include <array>
#include <vector>

#include "common/clock.h"
#include "worker/comm/collective.h"
#include "worker/comm/expert_exchange.h"
#include "worker/device.h"
#include "worker/kernels/cpu/cpu_weights.h"
#include "worker/kernels/cpu/kernel_choice.h"
#include "worker/kernels/cpu/kv_memory.h"
#include "worker/kernels/cpu/matmul_cut.h"
#include "worker/kernels/cpu/quantized_linear.h"
#include "worker/kernels/cpu/taken_experts.h"

namespace trireme::worker::cpu {

// Of what is done to rows, by one core, roughly; it only decides how the work is cut.
inline constexpr double kElementsPerNanosecond = 4;

[[nodiscard]] inline float* row_of(const View& view, uint32_t row) {
  return view.data + static_cast<std::size_t>(row) * view.row_stride;
}

class CpuDevice final : public Device {
 public:
  static constexpr uint32_t kScratchSlots = 16;

  // element: what matrices are computed in, kFloat32 or kBfloat16. Those of a checkpoint in int8 or
  // int4 stay as they are; on_load makes the others so. weights: where they are kept, and it
  // outlives the device; null: in memory of its own. exchange: null where it has no others.
  // workers_of_node: so many have been promised as much KV memory as this one.
  CpuDevice(Element element, ThreadPool& pool, Collective& collective,
            const KernelTable& kernels = best_kernels(), OnLoad on_load = OnLoad::kKeep,
            HostArena* weights = nullptr, ExpertExchange* exchange = nullptr,
            uint32_t workers_of_node = 1)
      : element_(element),
        on_load_(on_load),
        pool_(pool),
        collective_(collective),
        kernels_(kernels),
        exchange_(exchange),
        workers_of_node_(workers_of_node),
        weight_memory_(weights == nullptr ? own_weight_memory_ : *weights) {}

  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> load_linear(
      const LinearSource& source) override;
  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> load_vector(
      const VectorSource& source) override;
  using Device::load_vector;
  [[nodiscard]] StatusOr<std::unique_ptr<EmbeddingWeight>> load_embedding(
      const MatrixSlice& table) override;
  [[nodiscard]] std::unique_ptr<EmbeddingWeight> embedding_of(
      const LinearWeight& matrix) const override;
  [[nodiscard]] uint64_t kv_block_bytes(const KvLayout& layout) const override;
  [[nodiscard]] Status allocate_kv(const KvLayout& layout, uint32_t block_count) override;
  void release_kv() override { kv_.give_back(); }
  void copy_kv_block_out(uint32_t block, std::span<std::byte> to) const override {
    kv_.copy_out(block, to);
  }
  void copy_kv_block_in(uint32_t block, std::span<const std::byte> from) override {
    kv_.copy_in(block, from);
  }

  void begin_step(const ForwardBatch& batch, const RotaryAngles& angles) override;
  [[nodiscard]] Status end_step() override;
  void use_angles(const RotaryAngles& angles) override { angles_ = angles; }
  [[nodiscard]] View scratch(uint32_t slot, uint32_t row_count, uint32_t column_count) override;
  void write_from(std::span<const float> host, const View& to) override;
  void read_back(const View& from, std::span<float> host) override;

  void embed(const EmbeddingWeight& table, const View& out) override;
  void linear(const LinearWeight& weight, const View& x, const View& out) override;
  void rms_norm(const View& x, const VectorWeight& weight, float epsilon, const View& out) override;
  void add_rms_norm(const View& x, const View& delta, const VectorWeight& weight, float epsilon,
                    const View& out) override;
  void head_rms_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                     float epsilon) override;
  void wide_rms_norm(const View& x, const VectorWeight& weight, float epsilon) override;
  void layer_norm(const View& x, const VectorWeight& weight, const VectorWeight* bias,
                  float epsilon, const View& out) override;
  void head_layer_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                       float epsilon) override;
  void add(const View& x, const View& delta) override;
  void scale(const View& x, float factor) override;
  void add_positions(const EmbeddingWeight& table, const View& x) override;
  void rotary(const View& heads, uint32_t head_size) override;
  void append_kv(uint32_t layer, const View& k, const View& v) override;
  void rotate_and_append(uint32_t layer, uint32_t head_size, const View& q_and_k, const View& k,
                         const View& v) override;
  void attention(uint32_t layer, const AttentionShape& shape, const View& q,
                 const View& out) override;
  void append_latent(uint32_t layer, const View& value, const View& rest) override;
  void attend_latent(uint32_t layer, uint32_t head_count, float scale, const View& q,
                     const View& q_rest, const View& out) override;
  void linear_by_head(std::span<const std::unique_ptr<LinearWeight>> heads, const View& x,
                      const View& out) override;
  void feed_forward(Activation activation, const LinearWeight& gate_up, const LinearWeight& down,
                    const View& x, const View& out) override;
  void activate(Activation activation, const View& x) override;
  [[nodiscard]] ExpertChoices choose_experts(const Routing& routing, const VectorWeight* bias,
                                             const View& router_logits) override;
  void run_experts(Activation activation, std::span<const ExpertWeights> experts,
                   const ExpertChoices& choices, const View& x, const View& out) override;
  void add_gated(const View& x, const View& gate, const View& delta) override;
  void gather_rows(const View& x, std::span<const uint32_t> row_indices, const View& out) override;
  void all_reduce(const View& x) override;
  void logits(const LinearWeight& weight, const View& x, uint32_t vocabulary,
              std::span<float> out) override;
  void cap_logits(float cap, std::span<float> logits) override;

 private:
  [[nodiscard]] const KvKernels& kv_kernels() const {
    const Element element = kv_.layout().element;
    if (element == Element::kInt8) return kernels_.kv_int8;
    return element == Element::kBfloat16 ? kernels_.kv_bf16 : kernels_.kv_fp32;
  }
  void turn_token(const View& heads, uint32_t head_size, uint32_t token) const;
  // Where the token's KV goes: this layer and head in its block.
  [[nodiscard]] std::byte* block_of(uint32_t layer, uint32_t head, uint32_t token) const;
  void append_token(uint32_t layer, const View& k, const View& v, uint32_t token) const;
  // Slots of the device's own, behind those of the model.
  enum OwnSlot : uint32_t {
    kPickedRows,
    kGateUp,
    kActivated,
    kExpertOut,
    kOrderedColumns,
    kOwnSlots
  };
  [[nodiscard]] View own_scratch(OwnSlot slot, uint32_t row_count, uint32_t column_count) {
    return scratch_view(scratch_[kScratchSlots + slot], row_count, column_count);
  }
  [[nodiscard]] View scratch_view(HostMemory& memory, uint32_t row_count, uint32_t column_count);
  void fill_with_zeros(const View& out);
  class WaveWork;
  void run_experts_of_wave(Activation activation, std::span<const ExpertWeights> experts,
                           const ExpertChoices& choices, const View& x, const View& out);
  void sort_by_expert(const ExpertChoices& choices, std::size_t expert_count);
  // What the expert makes of some rows of x is added to those of `out`, by their weights.
  void run_expert(Activation activation, const ExpertWeights& expert,
                  std::span<const uint32_t> rows, std::span<const float> weights, const View& x,
                  const View& out);

  // Those of a worker that is away too.
  [[nodiscard]] StatusOr<const ExpertWeights*> weights_of(const ExpertWeights& expert);
  // KV memory of the node's workers that nobody has written yet.
  [[nodiscard]] uint64_t promised_bytes();
  // Of a layer those that are at their homes again.
  void give_back_experts(std::span<const ExpertWeights> layer);
  [[nodiscard]] StatusOr<std::unique_ptr<PackedLinear>> pack(const LinearSource& source,
                                                             HostArena& memory);

  [[nodiscard]] View in_column_order(const PackedMatrix& matrix, const View& x);
  [[nodiscard]] PackedRows pack_rows(const PackedMatrix& matrix, const View& x, const RowCut& cut);
  void multiply(const PackedMatrix& matrix, const PackedRows& rows, const RowCut& cut,
                const View& out);
  using InPlace = void (*)(float* x, uint32_t count);
  [[nodiscard]] InPlace kernel_of(Activation activation) const;
  // out = activation(gate) · up
  void multiply_activated(Activation activation, const float* gate, const float* up, uint32_t count,
                          float* out) const;
  template <typename Take>
  void multiply_gated(Activation activation, const PackedMatrix& matrix, const PackedRows& rows,
                      const RowCut& cut, const Take& take);
  void pack_columns(const PackedMatrix& matrix, const View& part, const RowCut& cut, uint32_t row,
                    uint32_t column, std::byte* packed) const;
  void normalise(const NormRows& rows);
  // body(row) for each row, in pieces.
  template <typename Body>
  void for_rows(const View& x, const Body& body);
  // body(begin, end) over [0, count) in pieces of about equal size; one piece when all of it takes
  // less time than waking a thread is worth.
  template <typename Body>
  void for_ranges(uint32_t count, double nanoseconds_each, const Body& body) {
    const uint32_t pieces = piece_count_for(count * nanoseconds_each, count);
    pool_.run(pieces, [&](uint32_t piece) {
      const auto at = [&](uint32_t i) {
        return static_cast<uint32_t>(uint64_t{count} * i / pieces);
      };
      body(at(piece), at(piece + 1));
    });
  }
  [[nodiscard]] uint32_t piece_count_for(double nanoseconds, uint32_t pieces_max) const;
  [[nodiscard]] std::byte* grow(HostMemory& memory, uint64_t byte_count);
  void keep(const Status& status) {
    if (failure_.ok()) failure_ = status;
  }

  const Element element_;
  const OnLoad on_load_;
  ThreadPool& pool_;
  Collective& collective_;
  const KernelTable& kernels_;
  ExpertExchange* const exchange_;
  const uint32_t workers_of_node_;
  HostArena own_weight_memory_;
  HostArena& weight_memory_;
  KvMemory kv_;

  const ForwardBatch* batch_ = nullptr;
  RotaryAngles angles_;
  std::vector<uint32_t> row_of_token_;
  struct TokenRun {  // Neighbouring tokens of one row.
    uint32_t begin;
    uint32_t count;
  };
  std::vector<TokenRun> runs_;
  double attention_nanoseconds_ = 0;  // Per head of the step, a guess for cutting the work.
  Status failure_;

  // Of choose_experts, and the same sorted by expert: the rows of expert e and their weights are
  // entries [expert_begins_[e], expert_begins_[e + 1]).
  std::vector<uint32_t> chosen_experts_;
  std::vector<float> chosen_weights_;
  std::vector<uint32_t> expert_begins_;
  std::vector<uint32_t> expert_rows_;
  std::vector<float> expert_weights_;
  std::vector<uint32_t> wave_rows_;  // Those that this rank sends.
  TakenExperts taken_;
  Instant look_at_promises_{};
  uint64_t promised_bytes_ = 0;
  WaveId told_of_taken_;             // The last wave in which the log says so.
  std::vector<float> row_sums_;      // Of wide_rms_norm.
  std::vector<float> position_row_;  // Of add_positions.

  std::array<HostMemory, kScratchSlots + kOwnSlots> scratch_;
  HostMemory packed_rows_;
  HostMemory packed_activated_;
  HostMemory row_scales_;
  HostMemory gathered_;
  HostMemory logits_part_;
};

}  // namespace trireme::worker::cpu
