#include "worker/kernels/cpu/cpu_weights.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "worker/kernels/cpu/source_rows.h"
#include "worker/kernels/element.h"

namespace trireme::worker::cpu {
namespace {

// The model's numbers are those of its dtype, whatever the checkpoint was stored in.
float in_precision(float value, Element element) {
  return element == Element::kBfloat16 ? rounded_to_bfloat16(value) : value;
}

// In a panel of Values: column k of the row that is in this lane.
template <typename Value>
constexpr std::size_t place_in_panel(uint32_t lane, uint32_t k) {
  if constexpr (sizeof(Value) == 4) {
    return std::size_t{k} * kPanelColumns + lane;
  } else {
    constexpr uint32_t kPerUnit = 4 / sizeof(Value);
    return unit_in_panel(lane, k / kPerUnit) * kPerUnit + k % kPerUnit;
  }
}

template <typename Value>
void pack_row(std::span<const float> row, Value* panel, uint32_t lane, Value (*convert)(float)) {
  for (uint32_t k = 0; k < row.size(); ++k) {
    panel[place_in_panel<Value>(lane, k)] = convert(row[k]);
  }
}

float value_of(uint16_t stored) { return float_of_bfloat16(stored); }
float value_of(float stored) { return stored; }

// Unit by unit: each lies in a cache line of its own.
template <typename Value>
void unpack_row(const std::byte* panel, uint32_t lane, std::span<float> row) {
  const auto* values = reinterpret_cast<const Value*>(panel);
  constexpr uint32_t kPerUnit = 4 / sizeof(Value);
  uint32_t k = 0;
  for (; k + kPerUnit <= row.size(); k += kPerUnit) {
    Value unit[kPerUnit];
    std::memcpy(unit, values + place_in_panel<Value>(lane, k), sizeof(unit));
    for (uint32_t i = 0; i < kPerUnit; ++i) row[k + i] = value_of(unit[i]);
  }
  for (; k < row.size(); ++k) row[k] = value_of(values[place_in_panel<Value>(lane, k)]);
}

// The usual case at the speed of memory: a checkpoint in bf16 whose pairs become units as they are.
// False when some row of the panel is not like that; then nothing is written.
bool copy_panel(const LinearSource& source, uint32_t panel, std::byte* to) {
  const std::byte* rows[kPanelColumns] = {};
  const uint32_t unit_count = source.parts.front().column_count / 2;
  for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
    const auto [part, row] = find_row(source.parts, panel * kPanelColumns + lane);
    if (part == nullptr || part->quantized != nullptr || part->element != Element::kBfloat16 ||
        part->column_stride != 1 || part->column_count != 2 * unit_count) {
      return false;
    }
    rows[lane] = static_cast<const std::byte*>(part->data) + 2 * row * part->row_stride;
  }
  // Some units at a time, so that the lines of the panel are still in the cache for the next lane.
  constexpr uint32_t kUnitsAtOnce = 64;
  for (uint32_t begin = 0; begin < unit_count; begin += kUnitsAtOnce) {
    const uint32_t end = std::min(begin + kUnitsAtOnce, unit_count);
    for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
      for (uint32_t unit = begin; unit < end; ++unit) {
        std::memcpy(to + 4 * unit_in_panel(lane, unit), rows[lane] + 4 * std::size_t{unit}, 4);
      }
    }
  }
  return true;
}

void pack_panel(const LinearSource& source, const PackedMatrix& matrix, uint32_t panel) {
  std::byte* to = matrix.panels + matrix.panel_bytes * panel;
  const bool is_bf16 = matrix.form == MatrixForm::kBfloat16;
  if (is_bf16 && copy_panel(source, panel, to)) return;
  std::vector<float> values(matrix.in_features);
  for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
    const SourceRow row = find_row(source.parts, panel * kPanelColumns + lane);
    if (row.part == nullptr) continue;
    read_row(row, values);
    if (is_bf16) {
      pack_row<uint16_t>(values, reinterpret_cast<uint16_t*>(to), lane, bfloat16_of);
    } else {
      pack_row<float>(values, reinterpret_cast<float*>(to), lane,
                      [](float value) { return value; });
    }
  }
}

void write_values(std::span<const MatrixSlice> parts, Element element, float added,
                  std::span<float> to) {
  std::size_t at = 0;
  for (const MatrixSlice& part : parts) {
    for (uint32_t i = 0; i < part.column_count; ++i) {
      to[at++] = in_precision(read_element(part.data, i, part.element), element) + added;
    }
  }
}

}  // namespace

StatusOr<std::unique_ptr<PackedLinear>> pack_linear(const LinearSource& source, Element element,
                                                    ThreadPool& pool, HostArena& memory) {
  TRIREME_CHECK(!source.parts.empty(), "a linear layer has at least one part");
  TRIREME_CHECK(element != Element::kFloat16, "the CPU computes in fp32 or bf16");
  const bool is_bf16 = element == Element::kBfloat16;
  PackedMatrix matrix{.form = is_bf16 ? MatrixForm::kBfloat16 : MatrixForm::kFloat32,
                      .out_features = std::max(source.row_count, row_count_of(source.parts)),
                      .in_features = source.parts.front().column_count};
  matrix.unit_count = is_bf16 ? whole_blocks((matrix.in_features + 1) / 2) : matrix.in_features;
  matrix.panel_bytes = uint64_t{4} * matrix.unit_count * kPanelColumns;
  TRIREME_ASSIGN_OR_RETURN(
      matrix.panels, memory.take(matrix.panel_bytes * matrix.panel_count(), "packed weights"));
  if (!memory.is_filled()) {
    pool.run(matrix.panel_count(), [&](uint32_t panel) { pack_panel(source, matrix, panel); });
  }
  TRIREME_ASSIGN_OR_RETURN(matrix.bias, packed_biases(source, element, memory));
  return std::make_unique<PackedLinear>(std::move(matrix));
}

StatusOr<std::span<const float>> packed_biases(const LinearSource& source, Element element,
                                               HostArena& memory) {
  if (source.biases.empty()) return std::span<const float>();
  const uint32_t rows = std::max(source.row_count, row_count_of(source.parts));
  const uint32_t padded = (rows + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
  TRIREME_ASSIGN_OR_RETURN(const auto biases, memory.take_span<float>(padded, "biases"));
  if (!memory.is_filled()) write_values(source.biases, element, 0.0F, biases);
  return std::span<const float>(biases);
}

StatusOr<std::unique_ptr<FloatVector>> FloatVector::load(const VectorSource& source,
                                                         Element element, HostArena& memory) {
  uint32_t count = 0;
  for (const MatrixSlice& part : source.parts) count += part.column_count;
  TRIREME_ASSIGN_OR_RETURN(const auto values, memory.take_span<float>(count, "vector weights"));
  if (!memory.is_filled()) write_values(source.parts, element, source.added, values);
  return std::make_unique<FloatVector>(values);
}

void MappedEmbedding::read_row(uint32_t row, float* out) const {
  if (row >= table_.row_count) {
    std::fill_n(out, table_.column_count, 0.0F);
    return;
  }
  const uint64_t begin = row * table_.row_stride;
  for (uint32_t i = 0; i < table_.column_count; ++i) {
    out[i] = in_precision(read_element(table_.data, begin + i, table_.element), element_);
  }
}

void PackedEmbedding::read_row(uint32_t row, float* out) const {
  const std::span<float> values(out, matrix_.in_features);
  if (row >= matrix_.out_features) {
    std::ranges::fill(values, 0.0F);
    return;
  }
  const std::byte* panel = matrix_.panels + matrix_.panel_bytes * (row / kPanelColumns);
  const uint32_t lane = row % kPanelColumns;
  if (matrix_.form == MatrixForm::kBfloat16) {
    unpack_row<uint16_t>(panel, lane, values);
  } else {
    unpack_row<float>(panel, lane, values);
  }
}

}  // namespace trireme::worker::cpu
