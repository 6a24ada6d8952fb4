#include "worker/kernels/cuda/coded_rows.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/kernels/cpu/kernel_choice.h"
#include "worker/kernels/cuda/integer_products.h"
#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cuda {
namespace {

using cpu::SourceRow;
using Kind = QuantizedMatrix::Kind;

constexpr uint32_t kRowAlignment = 16;  // That a row's bytes are a multiple of.

uint32_t up(uint32_t count, uint32_t by) { return (count + by - 1) / by * by; }

WeightForm form_of(Kind kind) {
  switch (kind) {
    case Kind::kInt8Rows:
      return WeightForm::kInt8Rows;
    case Kind::kInt4Groups:
      return WeightForm::kInt4Groups;
    case Kind::kInt8Groups:
      return WeightForm::kInt8Groups;
    case Kind::kFloat8Groups:
      return WeightForm::kFloat8Groups;
  }
  return WeightForm::kPlain;
}

bool is_quantized(const MatrixSlice& part) { return part.quantized != nullptr; }

// Whole rows with one scale.
ColumnGroups whole_rows(uint32_t in_features) {
  return {.group_columns = up(in_features, kRowAlignment),
          .group_count = 1,
          .in_features = in_features};
}

// A kernel has no use for pieces of a group that is all there is.
void merge_if_one(ColumnGroups& groups) {
  const auto& of_source = groups.source_groups;
  if (std::ranges::adjacent_find(of_source, std::ranges::not_equal_to{}) != of_source.end()) return;
  groups.group_columns = groups.column_count();
  groups.group_count = 1;
  groups.source_groups.resize(1);
}

// NaN where one of the weights is no finite number.
float scale_unit_of(const LinearSource& source) {
  float largest = 0;
  for (uint32_t row = 0; row < cpu::row_count_of(source.parts); ++row) {
    // The search for the best scale goes a little beyond an eighth.
    const float scale = cpu::largest_magnitude(cpu::find_row(source.parts, row)) / 7.0F;
    if (!std::isfinite(scale)) return scale_unit_for(NAN);
    largest = std::max(largest, scale);
  }
  return scale_unit_for(largest);
}

}  // namespace

WeightForm form_of(const LinearSource& source, cpu::OnLoad on_load) {
  TRIREME_CHECK(!source.parts.empty(), "a linear layer has at least one part");
  if (std::ranges::any_of(source.parts, is_quantized)) {
    const MatrixSlice& first = source.parts.front();
    const auto is_alike = [&](const MatrixSlice& part) {
      return is_quantized(part) && is_quantized(first) &&
             part.quantized->kind() == first.quantized->kind() &&
             part.quantized->group_columns() == first.quantized->group_columns();
    };
    return std::ranges::all_of(source.parts, is_alike) ? form_of(first.quantized->kind())
                                                       : WeightForm::kPlain;
  }
  if (source.narrowest == Narrowest::kAsIs || on_load == cpu::OnLoad::kKeep) {
    return WeightForm::kPlain;
  }
  const bool is_int4 = on_load == cpu::OnLoad::kInt4 && source.narrowest == Narrowest::kInt4;
  return is_int4 ? WeightForm::kInt4Groups : WeightForm::kInt8Rows;
}

StatusOr<CodedRows> CodedRows::of(const LinearSource& source, WeightForm form) {
  TRIREME_CHECK(form != WeightForm::kPlain, "plain numbers have no codes");
  const uint32_t in_features = source.parts.front().column_count;
  if (form == WeightForm::kInt8Rows) {
    if (in_features <= kInt8ColumnsMax) return CodedRows(source, form, whole_rows(in_features));
    return error(StatusCode::kInvalidArgument,
                 "a layer of %u input columns: int8 weights have %u at most", in_features,
                 kInt8ColumnsMax);
  }
  TRIREME_ASSIGN_OR_RETURN(ColumnGroups groups, ColumnGroups::of(source));
  if (groups.is_of_checkpoint()) merge_if_one(groups);
  return CodedRows(source, form, std::move(groups));
}

CodedRows::CodedRows(const LinearSource& source, WeightForm form, ColumnGroups groups)
    : source_(&source),
      form_(form),
      groups_(std::move(groups)),
      out_features_(std::max(source.row_count, cpu::row_count_of(source.parts))),
      values_(groups_.in_features),
      codes_(groups_.in_features),
      ordered_(groups_.column_count()) {
  scales_.resize(first_scale(out_features_));
  const bool has_zeros = form == WeightForm::kInt4Groups || form == WeightForm::kInt8Groups;
  if (has_zeros && !groups_.is_symmetric) zeros_.resize(scales_.size());
  if (form == WeightForm::kInt4Groups && !groups_.is_of_checkpoint()) {
    scale_unit_ = scale_unit_of(source);
  }
}

WeightMatrix CodedRows::shape() const {
  const uint32_t columns = groups_.column_count();
  return {.form = form_,
          .out_features = out_features_,
          .in_features = groups_.in_features,
          .row_bytes = up(form_ == WeightForm::kInt4Groups ? columns / 2 : columns, kRowAlignment),
          .group_columns = groups_.group_columns,
          .group_count = groups_.group_count};
}

void CodedRows::write(uint32_t row, std::byte* codes) {
  std::fill_n(codes, shape().row_bytes, std::byte{0});
  const SourceRow from = cpu::find_row(source_->parts, row);
  if (from.part == nullptr) return;  // Its scales are zeros.
  if (is_quantized(*from.part)) {
    read_groups(from, row);
  } else if (form_ == WeightForm::kInt8Rows) {
    make_int8(from, row);
  } else {
    make_int4(from, row);
  }
  for (std::size_t i = 0; i < ordered_.size(); ++i) {
    if (form_ == WeightForm::kInt4Groups) {
      codes[i / 2] |= static_cast<std::byte>(ordered_[i] << (i % 2 * 4));
    } else if (form_ == WeightForm::kInt8Rows && i < codes_.size()) {
      codes[i] = static_cast<std::byte>(ordered_[i] ^ 0x80U);  // 128 means 0.
    } else if (form_ != WeightForm::kInt8Rows) {
      codes[i] = static_cast<std::byte>(ordered_[i]);
    }
  }
}

void CodedRows::read_groups(const SourceRow& row, uint32_t index) {
  const QuantizedMatrix& from = *row.part->quantized;
  const uint32_t source_row = row.part->row_begin + row.row;
  from.read_codes(source_row, row.part->column_begin, codes_);
  for (uint32_t i = 0; i < ordered_.size(); ++i) {
    const int32_t column = groups_.column(i);
    if (column >= 0) ordered_[i] = codes_[static_cast<uint32_t>(column)];
  }
  for (uint32_t group = 0; group < groups_.group_count; ++group) {
    const uint32_t of_source = groups_.is_of_checkpoint() ? groups_.source_groups[group] : 0;
    scales_[first_scale(index) + group] = from.scale(source_row, of_source);
    if (zeros_.empty()) continue;
    zeros_[first_scale(index) + group] = static_cast<uint16_t>(from.zero(source_row, of_source));
  }
}

void CodedRows::make_int8(const SourceRow& row, uint32_t index) {
  cpu::read_row(row, values_);
  scales_[index] = quantize_int8(values_, std::span(ordered_).first(values_.size()));
}

void CodedRows::make_int4(const SourceRow& row, uint32_t index) {
  cpu::read_row(row, values_);
  for (uint32_t group = 0; group < groups_.group_count; ++group) {
    const uint32_t begin = group * groups_.group_columns;
    const uint32_t count = std::min(groups_.group_columns, groups_.in_features - begin);
    const uint16_t scale =
        quantize_int4(std::span(values_).subspan(begin, count), scale_unit_,
                      cpu::best_kernels().int4_error, std::span(ordered_).subspan(begin, count));
    scales_[first_scale(index) + group] = float_of_float16(scale) * scale_unit_;
  }
}

}  // namespace trireme::worker::cuda
