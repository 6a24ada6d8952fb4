// PackedLinear: a matrix in one of the forms of kernel_table.h. Who makes one: pack_linear() in the
// element that a model computes in (cpu_weights.h), pack_int8() and pack_int4()
// (quantized_linear.h). Threads: const.
#pragma once

#include <span>
#include <utility>

#include "worker/device.h"
#include "worker/kernels/cpu/host_memory.h"
#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {

enum class MatrixForm : uint8_t { kFloat32, kBfloat16, kInt8, kInt4 };

// Pointers and spans are into a HostArena that outlives the weight, or goes with it.
struct PackedMatrix {
  MatrixForm form = MatrixForm::kFloat32;
  uint32_t out_features = 0;
  uint32_t in_features = 0;
  uint32_t unit_count = 0;   // Along K; 4 bytes of a packed row each.
  uint64_t panel_bytes = 0;  // Of the weights or codes of one panel.
  std::byte* panels = nullptr;
  std::span<const float> bias;  // Padded to whole panels, or empty.
  uint64_t scale_bytes = 0;     // Of scales and zeros together.
  // Of the quantised forms, as MatmulPiece has them.
  const float* column_scales = nullptr;
  const uint16_t* group_scales = nullptr;
  const uint8_t* group_zeros = nullptr;
  uint32_t group_count = 0;
  uint32_t group_units = 0;
  float scale_unit = 1.0F;
  // Column i of the packed matrix is this one of x, a negative one zero; empty: the i-th.
  std::span<const int32_t> column_order = {};

  [[nodiscard]] uint32_t panel_count() const {
    return (out_features + kPanelColumns - 1) / kPanelColumns;
  }
};

class PackedLinear final : public LinearWeight {
 public:
  explicit PackedLinear(PackedMatrix matrix) : matrix_(std::move(matrix)) {}
  // What the matrix points into goes with it.
  void keep(HostArena memory) { memory_ = std::move(memory); }

  [[nodiscard]] uint32_t out_features() const override { return matrix_.out_features; }
  [[nodiscard]] uint32_t in_features() const override { return matrix_.in_features; }
  [[nodiscard]] uint64_t bytes() const override {
    return matrix_.panel_bytes * matrix_.panel_count() + matrix_.scale_bytes +
           sizeof(float) * matrix_.bias.size();
  }
  [[nodiscard]] const PackedMatrix& matrix() const { return matrix_; }

 private:
  PackedMatrix matrix_;
  HostArena memory_;  // Empty: it lies in a model's.
};

// Of a weight that a CpuDevice made.
[[nodiscard]] inline const PackedMatrix& matrix_of(const LinearWeight& weight) {
  return static_cast<const PackedLinear&>(weight).matrix();
}

}  // namespace trireme::worker::cpu
