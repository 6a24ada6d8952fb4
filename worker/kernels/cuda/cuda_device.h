// CudaDevice: the Device of one GPU, for dense decoder models.
//
// Activations are fp32. Matrices are kept in the device's element, or as the codes of a quantised
// checkpoint, and the rows that enter a product are rounded to that element; those that meet int8
// rows become int8 codes. K and V in the element of the KvLayout; all sums are fp32. Every operator
// is queued on one stream and returns at once; begin_step() uploads what the step's kernels read in
// one copy; write_from(), read_back() and logits() wait for the GPU, end_step() too. Sums over
// tensor- parallel ranks go through host memory and the Collective: right, but slow.
//
// What it cannot do yet is refused when a model is loaded, with --device cpu as the way out:
// mixtures of experts, latent attention, heads beyond kHeadSizeMax.
//
// The same sources run without a GPU: README.md of worker/kernels. Threads: one calls everything,
// creation included. The collective outlives the device, the device its weights.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "worker/comm/collective.h"
#include "worker/device.h"
#include "worker/kernels/cuda/batch_layout.h"
#include "worker/kernels/cuda/cuda_weights.h"
#include "worker/kernels/cuda/kv_memory.h"
#include "worker/kernels/cuda/matrix_products.h"
#include "worker/kernels/cuda/step_uploads.h"

namespace trireme::worker::cuda {

struct CudaDeviceOptions {
  Element element = Element::kBfloat16;  // What matrices are kept in: not kInt8.
  cpu::OnLoad on_load = cpu::OnLoad::kKeep;
  int ordinal = 0;  // Which GPU, as nvidia-smi counts those that are visible.
};

class CudaDevice final : public Device {
 public:
  static constexpr uint32_t kScratchSlots = 16;

  // kFailedPrecondition, saying what to do, where there is no such GPU.
  [[nodiscard]] static StatusOr<std::unique_ptr<CudaDevice>> create(
      const CudaDeviceOptions& options, Collective& tensor_parallel);

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
  void copy_kv_block_out(uint32_t block, std::span<std::byte> to) const override;
  void copy_kv_block_in(uint32_t block, std::span<const std::byte> from) override;

  void begin_step(const ForwardBatch& batch, const RotaryAngles& angles) override;
  [[nodiscard]] Status end_step() override;
  void use_angles(const RotaryAngles& angles) override;
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
  void feed_forward(Activation activation, const LinearWeight& gate_up, const LinearWeight& down,
                    const View& x, const View& out) override;
  void activate(Activation activation, const View& x) override;
  void gather_rows(const View& x, std::span<const uint32_t> row_indices, const View& out) override;
  void all_reduce(const View& x) override;
  void logits(const LinearWeight& weight, const View& x, uint32_t vocabulary,
              std::span<float> out) override;
  void cap_logits(float cap, std::span<float> logits) override;

  // Of models that are refused when they are loaded: an error all the same.
  void append_latent(uint32_t layer, const View& value, const View& rest) override;
  void attend_latent(uint32_t layer, uint32_t head_count, float scale, const View& q,
                     const View& q_rest, const View& out) override;
  void linear_by_head(std::span<const std::unique_ptr<LinearWeight>> heads, const View& x,
                      const View& out) override;
  [[nodiscard]] ExpertChoices choose_experts(const Routing& routing, const VectorWeight* bias,
                                             const View& router_logits) override;
  void run_experts(Activation activation, std::span<const ExpertWeights> experts,
                   const ExpertChoices& choices, const View& x, const View& out) override;
  void add_gated(const View& x, const View& gate, const View& delta) override;

 private:
  // Slots of the device's own, behind those of the model.
  enum OwnSlot : uint32_t { kGateUp, kActivated, kSpans, kLogits, kRowSums, kOwnSlots };
  // Angles whose arrays are on the device already, by the host's address.
  struct PlacedAngles {
    const float* host;
    TokenAngles angles;
  };

  CudaDevice(Element element, Collective& collective, Stream stream)
      : element_(element), collective_(collective), stream_(std::move(stream)) {}

  [[nodiscard]] Queue& queue() { return stream_.queue(); }
  // The step's first error; nothing more is queued.
  void keep(const Status& status);
  void wait() { keep(stream_.wait()); }
  template <typename Value>
  [[nodiscard]] const Value* place(std::span<const Value> values);
  [[nodiscard]] View grown(DeviceBuffer& memory, uint32_t row_count, uint32_t column_count);
  [[nodiscard]] View own_scratch(OwnSlot slot, uint32_t row_count, uint32_t column_count) {
    return grown(scratch_[kScratchSlots + slot], row_count, column_count);
  }
  void sum_over_ranks(const View& x);
  void gather_logits(const View& part, uint32_t vocabulary, std::span<float> out);

  const Element element_;
  Collective& collective_;
  mutable Stream stream_;  // Copies out of a const cache are queued too.
  std::unique_ptr<MatrixProducts> products_;
  std::unique_ptr<WeightUploader> weights_;
  KvMemory kv_;
  std::array<DeviceBuffer, kScratchSlots + kOwnSlots> scratch_;

  // Of the step. In device memory where not said otherwise.
  StepUploads uploads_;
  BatchLayout layout_;  // On the host.
  const int32_t* tokens_ = nullptr;
  const int32_t* positions_ = nullptr;
  const uint32_t* slots_ = nullptr;
  AttentionBatch batch_;
  TokenAngles angles_;
  std::vector<PlacedAngles> placed_angles_;
  std::vector<float> host_values_;
  Status failure_;
  mutable Status cache_failure_;  // Of a block's copy between steps: no later step succeeds.
};

}  // namespace trireme::worker::cuda
