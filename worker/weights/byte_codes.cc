#include "worker/weights/byte_codes.h"

#include <array>
#include <cmath>
#include <utility>

namespace trireme::worker {
namespace {

std::array<float, 256> float8_table() {
  std::array<float, 256> table{};
  for (uint32_t bits = 0; bits < 256; ++bits)
    table[bits] = float_of_float8(static_cast<uint8_t>(bits));
  return table;
}

class ByteMatrix final : public QuantizedMatrix {
 public:
  explicit ByteMatrix(ByteCodes codes) : codes_(std::move(codes)) {}

  [[nodiscard]] Kind kind() const override {
    return codes_.is_float8 ? Kind::kFloat8Groups : Kind::kInt8Rows;
  }
  [[nodiscard]] const std::string& name() const override { return codes_.name; }

  void read_values(uint32_t row, uint32_t column_begin, std::span<float> out) const override {
    static const std::array<float, 256> kFloat8 = float8_table();
    for (uint32_t i = 0; i < out.size(); ++i) {
      const uint32_t column = column_begin + i;
      const uint8_t byte = stored(row, column);
      const float value = codes_.is_float8 ? kFloat8[byte] : static_cast<float>(byte ^ 0x80U) - 128;
      out[i] = value * scale(row, column / codes_.block_columns);
    }
  }
  void read_codes(uint32_t row, uint32_t column_begin, std::span<uint8_t> out) const override {
    for (uint32_t i = 0; i < out.size(); ++i) {
      const uint8_t byte = stored(row, column_begin + i);
      out[i] = codes_.is_float8 ? byte : static_cast<uint8_t>(byte ^ 0x80U);
    }
  }
  [[nodiscard]] uint32_t group_of(uint32_t column) const override {
    return column / codes_.block_columns;
  }
  [[nodiscard]] float scale(uint32_t row, uint32_t group) const override {
    return codes_.scales[uint64_t{row} / codes_.block_rows * codes_.scales_per_row + group];
  }
  [[nodiscard]] uint32_t zero(uint32_t, uint32_t) const override {
    return codes_.is_float8 ? 0 : 128;
  }
  [[nodiscard]] bool is_symmetric() const override { return true; }
  [[nodiscard]] uint32_t group_columns() const override { return codes_.block_columns; }

 private:
  [[nodiscard]] uint8_t stored(uint32_t row, uint32_t column) const {
    return static_cast<uint8_t>(codes_.bytes[uint64_t{row} * codes_.column_count + column]);
  }

  const ByteCodes codes_;
};

}  // namespace

float float_of_float8(uint8_t bits) {
  const uint32_t exponent = bits >> 3 & 0xfU;
  const uint32_t mantissa = bits & 0x7U;
  if (exponent == 0xf && mantissa == 0x7) return std::nanf("");
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                    : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

std::shared_ptr<const QuantizedMatrix> make_byte_codes(ByteCodes codes) {
  return std::make_shared<ByteMatrix>(std::move(codes));
}

}  // namespace trireme::worker
