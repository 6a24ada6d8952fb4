#include "worker/kernels/cpu/quantized_linear.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "worker/kernels/column_groups.h"
#include "worker/kernels/cpu/cpu_weights.h"
#include "worker/kernels/cpu/source_rows.h"
#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cpu {
namespace {

using Kind = QuantizedMatrix::Kind;

constexpr uint32_t kCodesPerUnit = 4;
// Of an int32 sum of products up to 255 · 127.
constexpr uint32_t kInt8ColumnsMax = 65536;

bool all_are(const LinearSource& source, Kind kind) {
  const auto& first = source.parts.front();
  return std::ranges::all_of(source.parts, [&](const MatrixSlice& part) {
    return part.quantized != nullptr && part.quantized->kind() == kind &&
           part.quantized->group_columns() == first.quantized->group_columns();
  });
}

PackedMatrix shape_of(const LinearSource& source, MatrixForm form) {
  TRIREME_CHECK(!source.parts.empty(), "a linear layer has at least one part");
  return {.form = form,
          .out_features = std::max(source.row_count, row_count_of(source.parts)),
          .in_features = source.parts.front().column_count};
}

template <typename T>
StatusOr<T*> take(PackedMatrix& matrix, std::size_t count, HostArena& memory) {
  TRIREME_ASSIGN_OR_RETURN(std::byte* const bytes, memory.take(sizeof(T) * count, "packed scales"));
  matrix.scale_bytes += sizeof(T) * count;
  return reinterpret_cast<T*>(bytes);
}

// The order of the columns where the weight's own memory is.
StatusOr<std::span<const int32_t>> kept(const std::vector<int32_t>& order, HostArena& memory) {
  if (order.empty()) return std::span<const int32_t>();
  TRIREME_ASSIGN_OR_RETURN(const auto to, memory.take_span<int32_t>(order.size(), "column order"));
  if (!memory.is_filled()) std::ranges::copy(order, to.begin());
  return std::span<const int32_t>(to);
}

// Codes and scale of one row.
float read_int8(const SourceRow& row, std::span<float> values, std::span<uint8_t> codes) {
  const MatrixSlice& part = *row.part;
  if (part.quantized == nullptr || part.quantized->kind() != Kind::kInt8Rows) {
    read_row(row, values);
    return quantize_int8(values, codes);
  }
  part.quantized->read_codes(part.row_begin + row.row, part.column_begin, codes);
  return part.quantized->scale(part.row_begin + row.row, 0);
}

// NaN where weights to be quantised have one that is no finite number.
float largest_scale(const LinearSource& source, const ColumnGroups& groups, uint32_t panel) {
  float largest = 0;
  for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
    const SourceRow row = find_row(source.parts, panel * kPanelColumns + lane);
    if (row.part == nullptr) continue;
    if (!groups.is_of_checkpoint()) {
      // The search for the best scale goes a little beyond an eighth.
      const float magnitude = largest_magnitude(row);
      if (!std::isfinite(magnitude)) return NAN;
      largest = std::max(largest, magnitude / 7.0F);
      continue;
    }
    for (const uint32_t group : groups.source_groups) {
      const float scale = row.part->quantized->scale(row.part->row_begin + row.row, group);
      largest = std::max(largest, std::abs(scale));
    }
  }
  return largest;
}

// One row of the matrix into its lane of a panel.
class Int4Row {
 public:
  Int4Row(const PackedMatrix& matrix, const ColumnGroups& groups, uint16_t* scales, uint8_t* zeros,
          Int4Error error_of)
      : matrix_(matrix),
        groups_(groups),
        scales_(scales),
        zeros_(zeros),
        values_(matrix.in_features),
        error_of_(error_of),
        codes_(matrix.in_features),
        ordered_(groups.column_count()) {}

  void pack(const SourceRow& row, uint32_t panel, uint32_t lane) {
    panel_ = matrix_.panels + matrix_.panel_bytes * panel;
    lane_ = lane;
    first_scale_ = std::size_t{panel} * matrix_.group_count * kPanelColumns + lane;
    if (groups_.is_of_checkpoint()) {
      copy(row);
    } else {
      quantize(row);
    }
  }

 private:
  void copy(const SourceRow& row) {
    const QuantizedMatrix& from = *row.part->quantized;
    const uint32_t index = row.part->row_begin + row.row;
    from.read_codes(index, row.part->column_begin, codes_);
    for (uint32_t i = 0; i < ordered_.size(); ++i) {
      const int32_t column = groups_.column(i);
      if (column >= 0) ordered_[i] = codes_[static_cast<uint32_t>(column)];
    }
    put_codes();
    for (uint32_t group = 0; group < matrix_.group_count; ++group) {
      const std::size_t at = first_scale_ + std::size_t{group} * kPanelColumns;
      const uint32_t source_group = groups_.source_groups[group];
      scales_[at] = float16_of(from.scale(index, source_group) / matrix_.scale_unit);
      if (zeros_ != nullptr) zeros_[at] = static_cast<uint8_t>(from.zero(index, source_group));
    }
  }

  void quantize(const SourceRow& row) {
    read_row(row, values_);
    const uint32_t group_columns = matrix_.group_units * kCodesPerUnit;
    for (uint32_t group = 0; group < matrix_.group_count; ++group) {
      const uint32_t begin = group * group_columns;
      const uint32_t count = std::min(group_columns, matrix_.in_features - begin);
      scales_[first_scale_ + std::size_t{group} * kPanelColumns] =
          quantize_int4(std::span(values_).subspan(begin, count), matrix_.scale_unit, error_of_,
                        std::span(ordered_).subspan(begin, count));
    }
    put_codes();
  }

  void put_codes() {
    for (std::size_t i = 0; i < ordered_.size(); i += 8) {
      std::byte* const to = panel_ + (i / 8 * kPanelColumns + lane_) * 4;
      for (std::size_t k = 0; k < 4; ++k) {
        to[k] = static_cast<std::byte>(ordered_[i + k] | ordered_[i + 4 + k] << 4);
      }
    }
  }

  const PackedMatrix& matrix_;
  const ColumnGroups& groups_;
  uint16_t* scales_;
  uint8_t* zeros_;
  std::vector<float> values_;
  Int4Error error_of_;
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> ordered_;  // As the kernel has them.
  std::byte* panel_ = nullptr;
  uint32_t lane_ = 0;
  std::size_t first_scale_ = 0;
};

float scale_unit_of(const LinearSource& source, const ColumnGroups& groups, uint32_t panel_count,
                    ThreadPool& pool) {
  std::vector<float> largest(panel_count);
  pool.run(panel_count,
           [&](uint32_t panel) { largest[panel] = largest_scale(source, groups, panel); });
  const auto is_nan = [](float scale) { return std::isnan(scale); };
  if (std::ranges::any_of(largest, is_nan)) return scale_unit_for(NAN);
  return scale_unit_for(*std::ranges::max_element(largest));
}

}  // namespace

MatrixForm form_of(const LinearSource& source, Element element, OnLoad on_load) {
  const MatrixForm wide =
      element == Element::kBfloat16 ? MatrixForm::kBfloat16 : MatrixForm::kFloat32;
  const bool any = std::ranges::any_of(
      source.parts, [](const MatrixSlice& part) { return part.quantized != nullptr; });
  if (any) {
    if (source.parts.front().quantized == nullptr) return wide;
    if (all_are(source, Kind::kInt8Rows)) return MatrixForm::kInt8;
    return all_are(source, Kind::kInt4Groups) ? MatrixForm::kInt4 : wide;
  }
  if (source.narrowest == Narrowest::kAsIs || on_load == OnLoad::kKeep) return wide;
  const bool is_int4 = on_load == OnLoad::kInt4 && source.narrowest == Narrowest::kInt4;
  return is_int4 ? MatrixForm::kInt4 : MatrixForm::kInt8;
}

StatusOr<std::unique_ptr<PackedLinear>> pack_int8(const LinearSource& source, Element element,
                                                  ThreadPool& pool, HostArena& memory) {
  PackedMatrix matrix = shape_of(source, MatrixForm::kInt8);
  if (matrix.in_features > kInt8ColumnsMax) {
    return error(StatusCode::kInvalidArgument,
                 "a layer of %u input columns: int8 weights have %u at most", matrix.in_features,
                 kInt8ColumnsMax);
  }
  matrix.unit_count = whole_blocks((matrix.in_features + kCodesPerUnit - 1) / kCodesPerUnit);
  matrix.group_count = 1;
  matrix.group_units = matrix.unit_count;
  matrix.panel_bytes = uint64_t{kPanelColumns} * kCodesPerUnit * matrix.unit_count;
  TRIREME_ASSIGN_OR_RETURN(
      matrix.panels, memory.take(matrix.panel_bytes * matrix.panel_count(), "packed weights"));
  TRIREME_ASSIGN_OR_RETURN(
      float* const scales,
      take<float>(matrix, std::size_t{matrix.panel_count()} * kPanelColumns, memory));
  matrix.column_scales = scales;
  pool.run(memory.is_filled() ? 0 : matrix.panel_count(), [&](uint32_t panel) {
    std::vector<float> values(matrix.in_features);
    std::vector<uint8_t> codes(matrix.in_features);
    std::byte* const to = matrix.panels + matrix.panel_bytes * panel;
    for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
      const uint32_t index = panel * kPanelColumns + lane;
      const SourceRow row = find_row(source.parts, index);
      if (row.part == nullptr) continue;
      scales[index] = read_int8(row, values, codes);
      for (std::size_t k = 0; k < codes.size(); ++k) {
        const auto unit = static_cast<uint32_t>(k / kCodesPerUnit);
        to[unit_in_panel(lane, unit) * kCodesPerUnit + k % kCodesPerUnit] =
            static_cast<std::byte>(codes[k]);
      }
    }
  });
  TRIREME_ASSIGN_OR_RETURN(matrix.bias, packed_biases(source, element, memory));
  return std::make_unique<PackedLinear>(std::move(matrix));
}

StatusOr<std::unique_ptr<PackedLinear>> pack_int4(const LinearSource& source, Element element,
                                                  Int4Error error_of, ThreadPool& pool,
                                                  HostArena& memory) {
  PackedMatrix matrix = shape_of(source, MatrixForm::kInt4);
  TRIREME_ASSIGN_OR_RETURN(const ColumnGroups groups, ColumnGroups::of(source));
  TRIREME_ASSIGN_OR_RETURN(matrix.column_order, kept(groups.column_order, memory));
  matrix.group_count = groups.group_count;
  matrix.group_units = groups.group_columns / kCodesPerUnit;
  matrix.unit_count = matrix.group_count * matrix.group_units;
  matrix.panel_bytes = uint64_t{kPanelColumns} * kCodesPerUnit / 2 * matrix.unit_count;
  TRIREME_ASSIGN_OR_RETURN(
      matrix.panels, memory.take(matrix.panel_bytes * matrix.panel_count(), "packed weights"));
  const std::size_t scale_count =
      std::size_t{matrix.panel_count()} * kPanelColumns * matrix.group_count;
  TRIREME_ASSIGN_OR_RETURN(uint16_t* const scales, take<uint16_t>(matrix, scale_count, memory));
  uint8_t* zeros = nullptr;
  if (!groups.is_symmetric) {
    TRIREME_ASSIGN_OR_RETURN(zeros, take<uint8_t>(matrix, scale_count, memory));
  }
  matrix.group_scales = scales;
  matrix.group_zeros = zeros;
  TRIREME_ASSIGN_OR_RETURN(const auto scale_unit, memory.take_span<float>(1, "packed scales"));
  if (!memory.is_filled()) {
    scale_unit[0] = scale_unit_of(source, groups, matrix.panel_count(), pool);
  }
  matrix.scale_unit = scale_unit[0];
  pool.run(memory.is_filled() ? 0 : matrix.panel_count(), [&](uint32_t panel) {
    Int4Row lane_row(matrix, groups, scales, zeros, error_of);
    for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
      const SourceRow row = find_row(source.parts, panel * kPanelColumns + lane);
      if (row.part != nullptr) lane_row.pack(row, panel, lane);
    }
  });
  TRIREME_ASSIGN_OR_RETURN(matrix.bias, packed_biases(source, element, memory));
  return std::make_unique<PackedLinear>(std::move(matrix));
}

}  // namespace trireme::worker::cpu
