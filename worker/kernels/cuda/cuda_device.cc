#include "worker/kernels/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "worker/kernels/cuda/elementwise.h"
#include "worker/kernels/cuda/norms.h"
#include "worker/kernels/cuda/not_yet.h"
#include "worker/kernels/cuda/weight_products.h"

namespace trireme::worker::cuda {
namespace {

const WeightMatrix& matrix_of(const LinearWeight& weight) {
  return static_cast<const CudaLinear&>(weight).matrix();
}

const float* values_of(const VectorWeight& weight) {
  return static_cast<const CudaVector&>(weight).data();
}

const TableRows& rows_of(const EmbeddingWeight& table) {
  return static_cast<const CudaTable&>(table).rows();
}

RowCopy rows_to(const View& from, float* host) {
  const std::size_t row_bytes = from.column_count * sizeof(float);
  return {.to = host,
          .to_pitch = row_bytes,
          .from = from.data,
          .from_pitch = from.row_stride * sizeof(float),
          .row_bytes = row_bytes,
          .row_count = from.row_count};
}

RowCopy rows_from(const float* host, const View& to) {
  const std::size_t row_bytes = to.column_count * sizeof(float);
  return {.to = to.data,
          .to_pitch = to.row_stride * sizeof(float),
          .from = host,
          .from_pitch = row_bytes,
          .row_bytes = row_bytes,
          .row_count = to.row_count};
}

}  // namespace

StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::create(const CudaDeviceOptions& options,
                                                         Collective& tensor_parallel) {
  TRIREME_CHECK(options.element != Element::kInt8, "matrices are kept in floating point");
  TRIREME_RETURN_IF_ERROR(choose_gpu(options.ordinal));
  TRIREME_ASSIGN_OR_RETURN(Stream stream, Stream::create());
  std::unique_ptr<CudaDevice> device(
      new CudaDevice(options.element, tensor_parallel, std::move(stream)));
  TRIREME_ASSIGN_OR_RETURN(
      WeightUploader weights,
      WeightUploader::create(options.element, options.on_load, device->stream_));
  device->weights_ = std::make_unique<WeightUploader>(std::move(weights));
  device->products_ = std::make_unique<WeightProducts>();
  return device;
}

StatusOr<std::unique_ptr<LinearWeight>> CudaDevice::load_linear(const LinearSource& source) {
  // Routers, experts, what takes a latent cache apart: nothing else is loaded like that.
  if (source.narrowest == Narrowest::kAsIs || source.is_apart) {
    return not_yet("mixtures of experts and latent attention");
  }
  return weights_->linear(source);
}

StatusOr<std::unique_ptr<VectorWeight>> CudaDevice::load_vector(const VectorSource& source) {
  return weights_->vector(source);
}

StatusOr<std::unique_ptr<EmbeddingWeight>> CudaDevice::load_embedding(const MatrixSlice& table) {
  return weights_->table(table);
}

std::unique_ptr<EmbeddingWeight> CudaDevice::embedding_of(const LinearWeight& matrix) const {
  const auto& linear = static_cast<const CudaLinear&>(matrix);
  const WeightMatrix& rows = linear.matrix();
  if (rows.form != WeightForm::kPlain) return nullptr;
  return std::make_unique<CudaTable>(linear.values(),
                                     TableRows{.data = rows.data,
                                               .element = rows.element,
                                               .row_count = rows.out_features,
                                               .row_stride = rows.in_features},
                                     /*own_bytes=*/0);
}

uint64_t CudaDevice::kv_block_bytes(const KvLayout& layout) const {
  return KvMemory::block_bytes(layout);
}

Status CudaDevice::allocate_kv(const KvLayout& layout, uint32_t block_count) {
  kv_.give_back();
  TRIREME_ASSIGN_OR_RETURN(kv_, KvMemory::allocate(layout, block_count));
  return absl::OkStatus();
}

void CudaDevice::copy_kv_block_out(uint32_t block, std::span<std::byte> to) const {
  if (!kv_.is_there()) {
    std::ranges::fill(to, std::byte{0});
    return;
  }
  kv_.queue_copy_out(block, to, stream_.queue());
  cache_failure_.Update(stream_.wait());
}

void CudaDevice::copy_kv_block_in(uint32_t block, std::span<const std::byte> from) {
  cache_failure_.Update(kv_.take_back());
  if (!kv_.is_there()) return;
  kv_.queue_copy_in(block, from, queue());
  cache_failure_.Update(stream_.wait());
}

void CudaDevice::keep(const Status& status) {
  if (status.ok()) return;
  if (failure_.ok()) failure_ = status;
  queue().keep(cudaErrorLaunchFailure);
}

template <typename Value>
const Value* CudaDevice::place(std::span<const Value> values) {
  const StatusOr<const Value*> placed = uploads_.place(values, queue());
  keep(placed.status());
  return placed.ok() ? *placed : nullptr;
}

void CudaDevice::begin_step(const ForwardBatch& batch, const RotaryAngles& angles) {
  failure_ = absl::OkStatus();
  queue().forget();
  keep(cache_failure_);
  keep(uploads_.restart());
  keep(kv_.take_back());
  placed_angles_.clear();
  layout_.fill(batch, std::max(kv_.layout().block_tokens, 1U), kv_.block_count());
  tokens_ = place(batch.tokens);
  positions_ = place(batch.positions);
  slots_ = place(std::span<const uint32_t>(layout_.slots));
  batch_ = {.runs = place(std::span<const AttentionRun>(layout_.runs)),
            .run_count = static_cast<uint32_t>(layout_.runs.size()),
            .run_tokens_max = layout_.run_tokens_max,
            .last_position_max = layout_.last_position_max,
            .block_table = place(std::span<const int32_t>(layout_.block_table)),
            .positions = positions_};
  use_angles(angles);
}

void CudaDevice::use_angles(const RotaryAngles& angles) {
  const auto placed = std::ranges::find(placed_angles_, angles.cosines.data(), &PlacedAngles::host);
  if (placed != placed_angles_.end()) {
    angles_ = placed->angles;
    return;
  }
  angles_ = {.cosines = place(angles.cosines),
             .sines = place(angles.sines),
             .pair_count = angles.rotary_size / 2};
  uploads_.send(queue());
  placed_angles_.push_back({angles.cosines.data(), angles_});
}

Status CudaDevice::end_step() {
  wait();
  // What is queued between steps does not suffer from it.
  queue().forget();
  return failure_;
}

View CudaDevice::scratch(uint32_t slot, uint32_t row_count, uint32_t column_count) {
  TRIREME_CHECK(slot < kScratchSlots, "a model uses the slots there are");
  return grown(scratch_[slot], row_count, column_count);
}

View CudaDevice::grown(DeviceBuffer& memory, uint32_t row_count, uint32_t column_count) {
  // Rows start where 16 bytes can be read at once.
  const uint32_t stride = (column_count + 15) / 16 * 16;
  const std::size_t bytes = sizeof(float) * row_count * stride;
  if (memory.size() < bytes) {
    memory = DeviceBuffer();
    auto larger = DeviceBuffer::allocate(bytes + bytes / 4, "activations");
    keep(larger.status());
    // Nothing is queued that would use it.
    if (!larger.ok()) return {nullptr, row_count, column_count, stride};
    memory = std::move(larger).value();
  }
  return {reinterpret_cast<float*>(memory.data()), row_count, column_count, stride};
}

void CudaDevice::write_from(std::span<const float> host, const View& to) {
  queue_copy(rows_from(host.data(), to), queue());
  wait();
}

void CudaDevice::read_back(const View& from, std::span<float> host) {
  queue_copy(rows_to(from, host.data()), queue());
  wait();
}

void CudaDevice::embed(const EmbeddingWeight& table, const View& out) {
  cuda::embed(rows_of(table), tokens_, out, queue());
}

void CudaDevice::add_positions(const EmbeddingWeight& table, const View& x) {
  add_table_rows(rows_of(table), positions_, x, queue());
}

void CudaDevice::gather_rows(const View& x, std::span<const uint32_t> row_indices,
                             const View& out) {
  const uint32_t* const rows = place(row_indices);
  uploads_.send(queue());
  cuda::gather_rows(x, rows, out, queue());
}

void CudaDevice::linear(const LinearWeight& weight, const View& x, const View& out) {
  products_->multiply(x, matrix_of(weight), out, queue());
}

void CudaDevice::rms_norm(const View& x, const VectorWeight& weight, float epsilon,
                          const View& out) {
  cuda::rms_norm({.x = x, .weight = values_of(weight), .epsilon = epsilon, .out = out}, queue());
}

void CudaDevice::add_rms_norm(const View& x, const View& delta, const VectorWeight& weight,
                              float epsilon, const View& out) {
  cuda::rms_norm(
      {.x = x, .delta = delta, .weight = values_of(weight), .epsilon = epsilon, .out = out},
      queue());
}

void CudaDevice::head_rms_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                               float epsilon) {
  cuda::rms_norm(
      {.x = x, .weight = values_of(weight), .epsilon = epsilon, .out = x, .head_size = head_size},
      queue());
}

void CudaDevice::wide_rms_norm(const View& x, const VectorWeight& weight, float epsilon) {
  // One value for each row of x, side by side.
  const View sums = own_scratch(kRowSums, 1, x.row_count);
  sum_squares(x, sums.data, queue());
  if (collective_.size() > 1) sum_over_ranks(sums);
  // Ranks that hold copies of the same part count it equally often, so the mean stays right.
  finish_wide_rms_norm(x, sums.data, x.column_count * collective_.size(), values_of(weight),
                       epsilon, queue());
}

void CudaDevice::layer_norm(const View& x, const VectorWeight& weight, const VectorWeight* bias,
                            float epsilon, const View& out) {
  cuda::layer_norm({.x = x,
                    .weight = values_of(weight),
                    .bias = bias == nullptr ? nullptr : values_of(*bias),
                    .epsilon = epsilon,
                    .out = out},
                   queue());
}

void CudaDevice::head_layer_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                                 float epsilon) {
  cuda::layer_norm({.x = x,
                    .weight = values_of(weight),
                    .epsilon = epsilon,
                    .out = x,
                    .head_size = head_size,
                    .has_weight_of_each_head = true},
                   queue());
}

void CudaDevice::add(const View& x, const View& delta) { cuda::add(x, delta, queue()); }

void CudaDevice::scale(const View& x, float factor) { cuda::scale(x, factor, queue()); }

void CudaDevice::rotary(const View& heads, uint32_t head_size) {
  rotate(heads, head_size, angles_, queue());
}

void CudaDevice::append_kv(uint32_t layer, const View& k, const View& v) {
  cuda::append_kv(kv_.layer(layer), k, v, slots_, queue());
}

void CudaDevice::rotate_and_append(uint32_t layer, uint32_t head_size, const View& q_and_k,
                                   const View& k, const View& v) {
  TRIREME_CHECK(head_size == kv_.layout().head_size, "all heads of a model are as large");
  cuda::rotate_and_append(kv_.layer(layer), q_and_k, k, v, angles_, slots_, queue());
}

void CudaDevice::attention(uint32_t layer, const AttentionShape& shape, const View& q,
                           const View& out) {
  const std::size_t floats = attention_workspace(batch_, shape);
  const View spans = own_scratch(kSpans, 1, static_cast<uint32_t>(floats));
  attend(kv_.layer(layer), batch_, shape, q, out, spans.data, queue());
}

void CudaDevice::activate(Activation activation, const View& x) {
  cuda::activate(activation, x, queue());
}

void CudaDevice::feed_forward(Activation activation, const LinearWeight& gate_up,
                              const LinearWeight& down, const View& x, const View& out) {
  const uint32_t columns = down.in_features();
  const View activated = own_scratch(kActivated, x.row_count, columns);
  if (gate_up.out_features() == columns) {
    linear(gate_up, x, activated);
    activate(activation, activated);
  } else {
    TRIREME_CHECK(gate_up.out_features() == 2 * columns, "gate and up are as wide as down takes");
    const View both = own_scratch(kGateUp, x.row_count, 2 * columns);
    linear(gate_up, x, both);
    activate_and_multiply(activation, both, activated, queue());
  }
  linear(down, activated, out);
}

void CudaDevice::sum_over_ranks(const View& x) {
  host_values_.resize(std::size_t{x.row_count} * x.column_count);
  read_back(x, host_values_);
  if (!failure_.ok()) return;
  keep(collective_.all_reduce_sum(host_values_));
  write_from(host_values_, x);
}

void CudaDevice::all_reduce(const View& x) {
  if (collective_.size() > 1) sum_over_ranks(x);
}

void CudaDevice::logits(const LinearWeight& weight, const View& x, uint32_t vocabulary,
                        std::span<float> out) {
  const uint32_t columns = collective_.size() == 1 ? vocabulary : weight.out_features();
  const View part = own_scratch(kLogits, x.row_count, columns);
  linear(weight, x, part);
  if (collective_.size() == 1) return read_back(part, out);
  gather_logits(part, vocabulary, out);
}

void CudaDevice::gather_logits(const View& part, uint32_t vocabulary, std::span<float> out) {
  const std::size_t part_count = std::size_t{part.row_count} * part.column_count;
  host_values_.resize(part_count * (1 + collective_.size()));
  const auto mine = std::span(host_values_).first(part_count);
  const auto all = std::span(host_values_).subspan(part_count);
  read_back(part, mine);
  if (!failure_.ok()) return;
  keep(collective_.all_gather(mine, all));
  for (uint32_t rank = 0; rank < collective_.size(); ++rank) {
    const uint32_t begin = rank * part.column_count;
    const uint32_t columns = std::min(part.column_count, vocabulary - std::min(begin, vocabulary));
    for (uint32_t row = 0; row < part.row_count; ++row) {
      std::copy_n(&all[rank * part_count + std::size_t{row} * part.column_count], columns,
                  &out[std::size_t{row} * vocabulary + begin]);
    }
  }
}

void CudaDevice::cap_logits(float cap, std::span<float> logits) {
  // They are on the host by now. Only the Gemma 2 family has a cap.
  const View values = own_scratch(kLogits, 1, static_cast<uint32_t>(logits.size()));
  queue_copy(rows_from(logits.data(), values), queue());
  soft_cap(cap, values, queue());
  read_back(values, logits);
}

void CudaDevice::append_latent(uint32_t, const View&, const View&) {
  keep(not_yet("latent attention"));
}

void CudaDevice::attend_latent(uint32_t, uint32_t, float, const View&, const View&, const View&) {
  keep(not_yet("latent attention"));
}

void CudaDevice::linear_by_head(std::span<const std::unique_ptr<LinearWeight>>, const View&,
                                const View&) {
  keep(not_yet("latent attention"));
}

ExpertChoices CudaDevice::choose_experts(const Routing&, const VectorWeight*, const View&) {
  keep(not_yet("mixtures of experts"));
  return {};
}

void CudaDevice::run_experts(Activation, std::span<const ExpertWeights>, const ExpertChoices&,
                             const View&, const View&) {
  keep(not_yet("mixtures of experts"));
}

void CudaDevice::add_gated(const View&, const View&, const View&) {
  keep(not_yet("mixtures of experts"));
}

}  // namespace trireme::worker::cuda
