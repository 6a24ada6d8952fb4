#include "worker/weights/packed_groups.h"

#include <utility>

namespace trireme::worker {
namespace {

constexpr uint32_t kAwqPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};

class PackedGroupsMatrix final : public QuantizedMatrix {
 public:
  explicit PackedGroupsMatrix(PackedGroups groups)
      : groups_(std::move(groups)), codes_per_word_(32 / groups_.bits) {
    is_symmetric_ = true;
    for (uint32_t row = 0; row < groups_.row_count && is_symmetric_; ++row) {
      for (uint32_t group = 0; group < groups_.group_count; ++group) {
        if (zero(row, group) != middle()) is_symmetric_ = false;
      }
    }
  }

  [[nodiscard]] Kind kind() const override {
    return groups_.bits == 4 ? Kind::kInt4Groups : Kind::kInt8Groups;
  }
  [[nodiscard]] const std::string& name() const override { return groups_.name; }

  void read_values(uint32_t row, uint32_t column_begin, std::span<float> out) const override {
    for (uint32_t i = 0; i < out.size(); ++i) {
      const uint32_t column = column_begin + i;
      const uint32_t group = group_of(column);
      const auto stored = static_cast<int32_t>(code(groups_.codes, row, column));
      out[i] =
          static_cast<float>(stored - static_cast<int32_t>(zero(row, group))) * scale(row, group);
    }
  }
  void read_codes(uint32_t row, uint32_t column_begin, std::span<uint8_t> out) const override {
    for (uint32_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<uint8_t>(code(groups_.codes, row, column_begin + i));
    }
  }
  [[nodiscard]] uint32_t group_of(uint32_t column) const override {
    return groups_.group_of_column.empty() ? column / groups_.group_columns
                                           : groups_.group_of_column[column];
  }
  [[nodiscard]] float scale(uint32_t row, uint32_t group) const override {
    return groups_.scales[row * groups_.scale_row_stride + group * groups_.scale_group_stride];
  }
  [[nodiscard]] uint32_t zero(uint32_t row, uint32_t group) const override {
    if (groups_.zeros.words.count() == 0) return middle();
    return code(groups_.zeros, row, group) + groups_.zero_add;
  }
  [[nodiscard]] bool is_symmetric() const override { return is_symmetric_; }
  [[nodiscard]] uint32_t group_columns() const override { return groups_.group_columns; }

 private:
  [[nodiscard]] uint32_t middle() const { return 1U << (groups_.bits - 1); }
  [[nodiscard]] uint32_t code(const CodePlace& place, uint32_t row, uint32_t column) const {
    uint32_t& packed = place.packs_rows ? row : column;
    const uint32_t within = packed % codes_per_word_;
    packed /= codes_per_word_;
    const uint32_t word = place.words[row * place.row_stride + column * place.column_stride];
    const uint32_t slot = place.interleaves ? kAwqPlace[within] : within;
    return word >> (slot * groups_.bits) & ((1U << groups_.bits) - 1);
  }

  const PackedGroups groups_;
  const uint32_t codes_per_word_;
  bool is_symmetric_ = true;
};

}  // namespace

std::shared_ptr<const QuantizedMatrix> make_packed_groups(PackedGroups groups) {
  return std::make_shared<PackedGroupsMatrix>(std::move(groups));
}

}  // namespace trireme::worker
