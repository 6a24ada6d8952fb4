// CpuDevice's mixture in a wave: own rows go to the members that have their experts, own experts
// run over what all members send.
#include <algorithm>

#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {

class CpuDevice::WaveWork final : public ExpertWork {
 public:
  WaveWork(CpuDevice& device, Activation activation, std::span<const ExpertWeights> experts,
           const ExpertChoices& choices, const View& out)
      : device_(device), activation_(activation), experts_(experts), choices_(choices), out_(out) {}

  // Where there is no room for it, that is said when a row wants it.
  void fetch(uint32_t expert) override { (void)find(expert); }

  [[nodiscard]] Status compute(uint32_t expert, const float* x, std::span<const uint32_t> rows,
                               float* y, std::span<const uint32_t> results) override {
    TRIREME_ASSIGN_OR_RETURN(const ExpertWeights* const weights, find(expert));
    const auto row_count = static_cast<uint32_t>(rows.size());
    const View picked = device_.own_scratch(kPickedRows, row_count, columns());
    for_rows(row_count, 1, [&](uint32_t i) {
      std::copy_n(x + std::size_t{rows[i]} * columns(), columns(), row_of(picked, i));
    });
    const View result = device_.own_scratch(kExpertOut, row_count, columns());
    device_.feed_forward(activation_, *weights->gate_up, *weights->down, picked, result);
    for_rows(row_count, 1, [&](uint32_t i) {
      std::copy_n(row_of(result, i), columns(), y + std::size_t{results[i]} * columns());
    });
    return absl::OkStatus();
  }

  void combine(std::span<const uint32_t> rows, const float* y,
               std::span<const uint32_t> results) override {
    const uint32_t each = choices_.per_token;
    for_rows(static_cast<uint32_t>(rows.size()), each, [&](uint32_t i) {
      const float* weights = &choices_.weights[std::size_t{rows[i]} * each];
      for (uint32_t k = 0; k < each; ++k) {
        const float* made = y + std::size_t{results[std::size_t{i} * each + k]} * columns();
        device_.kernels_.add_scaled(row_of(out_, rows[i]), made, weights[k], columns());
      }
    });
  }

 private:
  [[nodiscard]] uint32_t columns() const { return out_.column_count; }

  [[nodiscard]] StatusOr<const ExpertWeights*> find(uint32_t expert) {
    const ExpertWeights& own = experts_[expert];
    auto found = device_.weights_of(own);
    if (own.gate_up == nullptr) {
      device_.exchange_->note_in_memory(expert, device_.taken_.has(own));
    }
    return found;
  }

  template <typename Body>
  void for_rows(uint32_t count, uint32_t passes, const Body& body) {
    device_.for_ranges(count, passes * columns() / kElementsPerNanosecond,
                       [&](uint32_t begin, uint32_t end) {
                         for (uint32_t i = begin; i < end; ++i) body(i);
                       });
  }

  CpuDevice& device_;
  const Activation activation_;
  const std::span<const ExpertWeights> experts_;
  const ExpertChoices& choices_;
  const View& out_;
};

void CpuDevice::run_experts_of_wave(Activation activation, std::span<const ExpertWeights> experts,
                                    const ExpertChoices& choices, const View& x, const View& out) {
  fill_with_zeros(out);
  if (!failure_.ok() || exchange_->is_abandoned()) return;
  const uint32_t ranks = collective_.size();
  wave_rows_.clear();
  for (uint32_t row = 0; row < x.row_count; ++row) {
    const uint32_t position = ranks == 1 ? 0 : static_cast<uint32_t>(batch_->positions[row]);
    if (position % ranks == collective_.rank()) wave_rows_.push_back(row);
  }
  WaveWork work(*this, activation, experts, choices, out);
  const ExpertShape shape{.hidden_size = x.column_count,
                          .expert_count = static_cast<uint32_t>(experts.size()),
                          .experts_per_token = choices.per_token};
  const Status status = exchange_->run(shape,
                                       {.values = x.data,
                                        .row_stride = x.row_stride,
                                        .rows = wave_rows_,
                                        .experts = choices.experts},
                                       work);
  give_back_experts(experts);
  if (status.code() != StatusCode::kAborted) return keep(status);
  fill_with_zeros(out);
}

}  // namespace trireme::worker::cpu
