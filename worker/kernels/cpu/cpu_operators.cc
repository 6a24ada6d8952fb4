// CpuDevice's operators beside those that the Llama family needs: row by row, each row alone.
#include <cmath>
#include <cstring>

#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

// Work is cut into pieces of about this many elements, of whole rows.
constexpr uint32_t kPieceElements = 1U << 14;
constexpr std::size_t kLogitsPiece = kPieceElements;

const float* values_of(const VectorWeight& weight) {
  return static_cast<const FloatVector&>(weight).data();
}

}  // namespace

CpuDevice::InPlace CpuDevice::kernel_of(Activation activation) const {
  switch (activation) {
    case Activation::kGelu:
      return kernels_.gelu;
    case Activation::kGeluTanh:
      return kernels_.gelu_tanh;
    case Activation::kSilu:
      break;
  }
  return kernels_.silu;
}

template <typename Body>
void CpuDevice::for_rows(const View& x, const Body& body) {
  const uint32_t rows_per_piece = std::max(kPieceElements / std::max(x.column_count, 1U), 1U);
  const uint32_t pieces = (x.row_count + rows_per_piece - 1) / rows_per_piece;
  pool_.run(pieces, [&](uint32_t piece) {
    const uint32_t end = std::min((piece + 1) * rows_per_piece, x.row_count);
    for (uint32_t row = piece * rows_per_piece; row < end; ++row) body(row);
  });
}

void CpuDevice::layer_norm(const View& x, const VectorWeight& weight, const VectorWeight* bias,
                           float epsilon, const View& out) {
  for_rows(x, [&](uint32_t row) {
    kernels_.layer_norm({.x = row_of(x, row),
                         .weight = values_of(weight),
                         .out = row_of(out, row),
                         .row_count = 1,
                         .column_count = x.column_count,
                         .epsilon = epsilon,
                         .bias = bias == nullptr ? nullptr : values_of(*bias)});
  });
}

void CpuDevice::head_layer_norm(const View& x, uint32_t head_size, const VectorWeight& weight,
                                float epsilon) {
  for_rows(x, [&](uint32_t row) {
    for (uint32_t column = 0; column < x.column_count; column += head_size) {
      float* head = row_of(x, row) + column;
      kernels_.layer_norm({.x = head,
                           .weight = values_of(weight) + column,
                           .out = head,
                           .row_count = 1,
                           .column_count = head_size,
                           .epsilon = epsilon});
    }
  });
}

void CpuDevice::wide_rms_norm(const View& x, const VectorWeight& weight, float epsilon) {
  row_sums_.resize(x.row_count);
  for_rows(x, [&](uint32_t row) {
    row_sums_[row] = kernels_.sum_of_squares(row_of(x, row), x.column_count);
  });
  if (collective_.size() > 1 && failure_.ok()) keep(collective_.all_reduce_sum(row_sums_));
  // Ranks that hold copies of the same part count it equally often, so the mean stays right.
  const auto columns = static_cast<float>(x.column_count * collective_.size());
  for_rows(x, [&](uint32_t row) {
    const float factor = 1.0F / std::sqrt(row_sums_[row] / columns + epsilon);
    kernels_.scale(row_of(x, row), factor, x.column_count);
    kernels_.multiply(row_of(x, row), values_of(weight), x.column_count);
  });
}

void CpuDevice::scale(const View& x, float factor) {
  for_rows(x, [&](uint32_t row) { kernels_.scale(row_of(x, row), factor, x.column_count); });
}

void CpuDevice::add_positions(const EmbeddingWeight& table, const View& x) {
  const auto& rows = static_cast<const EmbeddingRows&>(table);
  for (uint32_t row = 0; row < x.row_count; ++row) {
    position_row_.resize(x.column_count);
    rows.read_row(static_cast<uint32_t>(batch_->positions[row]), position_row_.data());
    kernels_.add(row_of(x, row), position_row_.data(), x.column_count);
  }
}

void CpuDevice::activate(Activation activation, const View& x) {
  const InPlace kernel = kernel_of(activation);
  for_rows(x, [&](uint32_t row) { kernel(row_of(x, row), x.column_count); });
}

void CpuDevice::cap_logits(float cap, std::span<float> logits) {
  const auto pieces = static_cast<uint32_t>((logits.size() + kLogitsPiece - 1) / kLogitsPiece);
  pool_.run(pieces, [&](uint32_t piece) {
    const auto part = logits.subspan(piece * kLogitsPiece,
                                     std::min(kLogitsPiece, logits.size() - piece * kLogitsPiece));
    kernels_.soft_cap(part.data(), cap, static_cast<uint32_t>(part.size()));
  });
}

}  // namespace trireme::worker::cpu
