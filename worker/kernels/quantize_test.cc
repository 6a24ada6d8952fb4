// Goal: weights made whole numbers on load lose half a step at most, and exact ones lose nothing.
#include "worker/kernels/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/element.h"

namespace trireme::worker {
namespace {

const Int4Error kError = cpu::plain_kernels().int4_error;

std::vector<float> random_values(std::size_t count, uint64_t seed, double size) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>((random.unit() * 2 - 1) * size);
  return values;
}

TEST(Quantize, int8_is_within_half_a_step_of_every_weight) {
  for (const double size : {1e-20, 0.02, 3.0, 1e20}) {
    const auto values = random_values(1000, 1, size);
    std::vector<uint8_t> codes(values.size());
    const float scale = quantize_int8(values, codes);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR((codes[i] - 128) * scale, values[i], 0.5001F * scale);
    }
  }
}

TEST(Quantize, int8_of_zeros_is_zeros) {
  std::vector<uint8_t> codes(5);
  EXPECT_EQ(quantize_int8(std::vector<float>(5), codes), 0.0F);
  EXPECT_EQ(codes, std::vector<uint8_t>(5, 128));
}

TEST(Quantize, the_scale_of_values_that_are_no_numbers_is_none_either) {
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    auto values = random_values(64, 2, 0.1);
    values[63] = bad;
    std::vector<uint8_t> codes(values.size());
    EXPECT_TRUE(std::isnan(quantize_int8(values, codes)));
    EXPECT_TRUE(std::isnan(float_of_float16(quantize_int4(values, 1.0F, kError, codes))));
    EXPECT_EQ(codes, std::vector<uint8_t>(64, 8));
  }
  EXPECT_TRUE(std::isnan(scale_unit_for(NAN)));
}

TEST(Quantize, int4_of_sixteenths_is_exact) {
  std::vector<float> values;
  for (int i = -8; i < 8; ++i) values.push_back(static_cast<float>(i) * 0.0625F);
  std::vector<uint8_t> codes(values.size());
  const float unit = scale_unit_for(0.0625F);
  const float scale = float_of_float16(quantize_int4(values, unit, kError, codes)) * unit;
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(static_cast<float>(codes[i] - 8) * scale, values[i]);
  }
}

// Root mean squared error of int4 with groups of 128 over that of the values: uniform ones have
// about 1 / 16 · sqrt(1 / 12) · 2 / sqrt(1 / 3).
TEST(Quantize, int4_of_uniform_values_loses_about_a_sixteenth) {
  double squares = 0;
  double errors = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto values = random_values(128, seed, 0.03);
    std::vector<uint8_t> codes(values.size());
    const float unit = scale_unit_for(0.03F / 7);
    const float scale = float_of_float16(quantize_int4(values, unit, kError, codes)) * unit;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float difference = static_cast<float>(codes[i] - 8) * scale - values[i];
      errors += difference * difference;
      squares += values[i] * values[i];
    }
  }
  EXPECT_LT(std::sqrt(errors / squares), 0.068);
}

TEST(Quantize, a_unit_keeps_scales_within_fp16_and_small_ones_exact) {
  for (const float largest : {1e-30F, 3e-5F, 1.0F, 7e4F, 1e30F}) {
    const float unit = scale_unit_for(largest);
    EXPECT_TRUE(std::isfinite(float_of_float16(float16_of(largest / unit))));
    const float bf16_scale = rounded_to_bfloat16(largest * 1e-6F);
    if (largest < 1e-20F) continue;
    EXPECT_EQ(float_of_float16(float16_of(bf16_scale / unit)) * unit, bf16_scale);
  }
  EXPECT_EQ(scale_unit_for(0.0F), 1.0F);
}

TEST(Element, float16_is_rounded_to_the_nearest) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = float_of_float16(half);
    ASSERT_EQ(float16_of(value), half);
    ASSERT_EQ(float16_of(-value), half | 0x8000U);
    if (bits == 0x7bff) continue;
    const float next = float_of_float16(static_cast<uint16_t>(half + 1));
    const float middle = value + (next - value) / 2;
    ASSERT_EQ(float16_of(middle), half % 2 == 0 ? half : half + 1) << bits;
    ASSERT_EQ(float16_of(std::nextafter(middle, 0.0F)), half) << bits;
    ASSERT_EQ(float16_of(std::nextafter(middle, 1e9F)), half + 1) << bits;
  }
  EXPECT_EQ(float16_of(65520.0F), 0x7c00U);
  EXPECT_TRUE(std::isnan(float_of_float16(float16_of(NAN))));
}

}  // namespace
}  // namespace trireme::worker
