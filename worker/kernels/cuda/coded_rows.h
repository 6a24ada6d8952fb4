// CodedRows: the rows of a linear layer as codes and scales, as a WeightMatrix has them
// (matrix_products.h): those of a quantised checkpoint, bit by bit, or made on load from wider
// numbers (quantize.h). Pure; reads the checkpoint.
#pragma once

#include <optional>
#include <vector>

#include "worker/device.h"
#include "worker/kernels/column_groups.h"
#include "worker/kernels/cpu/quantized_linear.h"
#include "worker/kernels/cpu/source_rows.h"
#include "worker/kernels/cuda/matrix_products.h"

namespace trireme::worker::cuda {

// Of a layer whose parts are quantised alike, or shall be; kPlain: it is kept in the device's
// element, and parts that are quantised are decoded to it.
[[nodiscard]] WeightForm form_of(const LinearSource& source, cpu::OnLoad on_load);

class CodedRows {
 public:
  // form: not kPlain. The source outlives it. kInvalidArgument when sums could leave int32;
  // kUnimplemented naming two layers that are stacked and group their columns in different ways.
  [[nodiscard]] static StatusOr<CodedRows> of(const LinearSource& source, WeightForm form);

  // What of the WeightMatrix does not lie in device memory.
  [[nodiscard]] WeightMatrix shape() const;
  // A row's codes, row_bytes of them.
  void write(uint32_t row, std::byte* codes);

  // As the WeightMatrix has them, once all rows are written; empty: none.
  [[nodiscard]] const std::vector<float>& scales() const { return scales_; }
  [[nodiscard]] const std::vector<uint16_t>& zeros() const { return zeros_; }
  [[nodiscard]] const std::vector<int32_t>& column_order() const { return groups_.column_order; }

 private:
  CodedRows(const LinearSource& source, WeightForm form, ColumnGroups groups);
  void read_groups(const cpu::SourceRow& row, uint32_t index);
  void make_int8(const cpu::SourceRow& row, uint32_t index);
  void make_int4(const cpu::SourceRow& row, uint32_t index);
  [[nodiscard]] std::size_t first_scale(uint32_t row) const {
    return std::size_t{row} * groups_.group_count;
  }

  const LinearSource* source_;
  WeightForm form_;
  ColumnGroups groups_;
  uint32_t out_features_;
  float scale_unit_ = 1.0F;  // Of scales made on load.
  std::vector<float> scales_;
  std::vector<uint16_t> zeros_;
  std::vector<float> values_;     // Of one row.
  std::vector<uint8_t> codes_;    // Of its columns,
  std::vector<uint8_t> ordered_;  // and as the kernel has them.
};

}  // namespace trireme::worker::cuda
