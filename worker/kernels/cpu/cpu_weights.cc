#include "worker/kernels/cpu/cpu_weights.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "worker/kernels/element.h"

namespace trireme::worker::cpu {
namespace {

// The model's numbers are those of its dtype, whatever the checkpoint was stored in.
float in_precision(float value, Element element) {
  return element == Element::kBfloat16 ? rounded_to_bfloat16(value) : value;
}

uint32_t rows_of(const std::vector<MatrixSlice>& parts) {
  uint32_t rows = 0;
  for (const MatrixSlice& part : parts) rows += part.row_count;
  return rows;
}

// Where row `row` of the stacked parts lies; null in the padding.
const MatrixSlice* find_part(const std::vector<MatrixSlice>& parts, uint32_t& row) {
  for (const MatrixSlice& part : parts) {
    if (row < part.row_count) return &part;
    row -= part.row_count;
  }
  return nullptr;
}

template <typename Value>
void pack_row(const MatrixSlice& part, uint32_t row, Value* panel, uint32_t lane, uint32_t step,
              Value (*convert)(float)) {
  const uint64_t begin = row * part.row_stride;
  for (uint32_t k = 0; k < part.column_count; ++k) {
    panel[(k / step * kPanelColumns + lane) * step + k % step] =
        convert(read_element(part.data, begin + k * part.column_stride, part.element));
  }
}

// The usual case at the speed of memory: a checkpoint in bf16 whose pairs become units as they are.
// False when some row of the panel is not like that; then nothing is written.
bool copy_panel(const LinearSource& source, uint32_t panel, std::byte* to) {
  const std::byte* rows[kPanelColumns] = {};
  const uint32_t unit_count = source.parts.front().column_count / 2;
  for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
    uint32_t row = panel * kPanelColumns + lane;
    const MatrixSlice* part = find_part(source.parts, row);
    if (part == nullptr || part->element != Element::kBfloat16 || part->column_stride != 1 ||
        part->column_count != 2 * unit_count) {
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
        std::memcpy(to + 4 * (std::size_t{unit} * kPanelColumns + lane),
                    rows[lane] + 4 * std::size_t{unit}, 4);
      }
    }
  }
  return true;
}

}  // namespace

StatusOr<std::unique_ptr<PackedLinear>> PackedLinear::pack(const LinearSource& source,
                                                           Element element, ThreadPool& pool,
                                                           HostArena& memory) {
  TRIREME_CHECK(!source.parts.empty(), "a linear layer has at least one part");
  TRIREME_CHECK(element != Element::kFloat16, "the CPU computes in fp32 or bf16");
  std::unique_ptr<PackedLinear> linear(new PackedLinear);
  linear->element_ = element;
  linear->out_features_ = std::max(source.row_count, rows_of(source.parts));
  linear->in_features_ = source.parts.front().column_count;
  TRIREME_ASSIGN_OR_RETURN(
      linear->panels_,
      memory.take(linear->panel_bytes() * linear->panel_count(), "packed weights"));
  pool.run(linear->panel_count(), [&](uint32_t panel) { linear->pack_panel(source, panel); });
  if (!source.biases.empty()) linear->pack_biases(source);
  return linear;
}

uint32_t PackedLinear::panel_count() const {
  return (out_features_ + kPanelColumns - 1) / kPanelColumns;
}

uint32_t PackedLinear::unit_count() const {
  return element_ == Element::kBfloat16 ? (in_features_ + 1) / 2 : in_features_;
}

void PackedLinear::pack_panel(const LinearSource& source, uint32_t panel) {
  std::byte* to = panels_ + panel_bytes() * panel;
  if (element_ == Element::kBfloat16 && copy_panel(source, panel, to)) return;
  for (uint32_t lane = 0; lane < kPanelColumns; ++lane) {
    uint32_t row = panel * kPanelColumns + lane;
    const MatrixSlice* part = find_part(source.parts, row);
    if (part == nullptr) continue;
    if (element_ == Element::kBfloat16) {
      pack_row<uint16_t>(*part, row, reinterpret_cast<uint16_t*>(to), lane, 2, bfloat16_of);
    } else {
      pack_row<float>(*part, row, reinterpret_cast<float*>(to), lane, 1,
                      [](float value) { return value; });
    }
  }
}

void PackedLinear::pack_biases(const LinearSource& source) {
  bias_.resize(static_cast<std::size_t>(panel_count()) * kPanelColumns);
  std::size_t at = 0;
  for (const MatrixSlice& bias : source.biases) {
    for (uint32_t i = 0; i < bias.column_count; ++i) {
      bias_[at++] = in_precision(read_element(bias.data, i, bias.element), element_);
    }
  }
}

FloatVector::FloatVector(const VectorSource& source, Element element) {
  for (const MatrixSlice& part : source.parts) {
    for (uint32_t i = 0; i < part.column_count; ++i) {
      const float value = in_precision(read_element(part.data, i, part.element), element);
      values_.push_back(value + source.added);
    }
  }
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

}  // namespace trireme::worker::cpu
