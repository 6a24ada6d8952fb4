// Goal: the int8 and int4 products of every instruction set that this CPU runs compute what
// reference/ computes of the same numbers, for shapes, groups and orders of columns of every kind,
// and a row's bits do not depend on the rows beside it. Method: rows of x that are int8 exactly, so
// that the reference has nothing to round; and random ones, with the bound that rounding has.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/reference/reference.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cpu {
namespace {

// Of the largest value: fp32 sums of some tens of groups.
constexpr float kTolerance = 2e-6F;

struct Case {
  const KernelTable* kernels;
  OnLoad on_load;
};

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

// Every group of columns has a magnitude of 127 / 128: all values are int8 codes over 128.
std::vector<float> int8_values(std::size_t rows, std::size_t columns, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(rows * columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double unit = random.unit() * 2 - 1;
    const bool is_large = i % columns == 0 || random.unit() < 0.5;
    const double code = is_large ? std::copysign(127.0, unit) : std::nearbyint(unit * 127);
    values[i] = static_cast<float>(code / 128);
  }
  return values;
}

void expect_close(std::span<const float> got, std::span<const float> expected) {
  ASSERT_EQ(got.size(), expected.size());
  float largest = 1e-3F;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], kTolerance * largest) << "at " << i;
  }
}

// A checkpoint's matrix of random int4 codes.
class RandomInt4 final : public QuantizedMatrix {
 public:
  RandomInt4(uint32_t rows, uint32_t columns, uint32_t group_columns, bool is_symmetric,
             bool in_order = true)
      : columns_(columns), group_columns_(group_columns), is_symmetric_(is_symmetric) {
    Random random(rows * 1000 + columns);
    const uint32_t groups = (columns + group_columns - 1) / group_columns;
    for (uint32_t i = 0; i < columns; ++i) groups_.push_back(i / group_columns);
    if (!in_order) {
      for (uint32_t i = columns - 1; i > 0; --i) {
        std::swap(groups_[i], groups_[static_cast<uint32_t>(random.unit() * i)]);
      }
    }
    for (uint32_t i = 0; i < rows * columns; ++i) {
      codes_.push_back(static_cast<uint8_t>(random.unit() * 16));
    }
    for (uint32_t i = 0; i < rows * groups; ++i) {
      scales_.push_back(rounded_to_bfloat16(static_cast<float>(random.unit() * 0.1 + 1e-4)));
      zeros_.push_back(is_symmetric ? 8 : static_cast<uint8_t>(random.unit() * 17));
    }
    group_count_ = groups;
  }

  [[nodiscard]] Kind kind() const override { return Kind::kInt4Groups; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  void read_values(uint32_t row, uint32_t column_begin, std::span<float> out) const override {
    for (uint32_t i = 0; i < out.size(); ++i) {
      const uint32_t column = column_begin + i;
      const std::size_t at = std::size_t{row} * group_count_ + groups_[column];
      const int code = codes_[std::size_t{row} * columns_ + column];
      out[i] = static_cast<float>(code - zeros_[at]) * scales_[at];
    }
  }
  void read_codes(uint32_t row, uint32_t column_begin, std::span<uint8_t> out) const override {
    std::copy_n(codes_.begin() + static_cast<std::ptrdiff_t>(row) * columns_ + column_begin,
                out.size(), out.begin());
  }
  [[nodiscard]] uint32_t group_of(uint32_t column) const override { return groups_[column]; }
  [[nodiscard]] float scale(uint32_t row, uint32_t group) const override {
    return scales_[std::size_t{row} * group_count_ + group];
  }
  [[nodiscard]] uint32_t zero(uint32_t row, uint32_t group) const override {
    return zeros_[std::size_t{row} * group_count_ + group];
  }
  [[nodiscard]] bool is_symmetric() const override { return is_symmetric_; }
  [[nodiscard]] uint32_t group_columns() const override { return group_columns_; }

 private:
  const std::string name_ = "random";
  const uint32_t columns_;
  const uint32_t group_columns_;
  const bool is_symmetric_;
  uint32_t group_count_ = 0;
  std::vector<uint32_t> groups_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_;
};

MatrixSlice slice_of(std::shared_ptr<const QuantizedMatrix> matrix, uint32_t row_begin,
                     uint32_t rows, uint32_t column_begin, uint32_t columns) {
  return {.row_count = rows,
          .column_count = columns,
          .quantized = std::move(matrix),
          .row_begin = row_begin,
          .column_begin = column_begin};
}

std::vector<float> values_of(const MatrixSlice& slice) {
  std::vector<float> values(std::size_t{slice.row_count} * slice.column_count);
  for (uint32_t row = 0; row < slice.row_count; ++row) {
    slice.quantized->read_values(
        slice.row_begin + row, slice.column_begin,
        std::span(values).subspan(std::size_t{row} * slice.column_count, slice.column_count));
  }
  return values;
}

class QuantizedKernels : public testing::TestWithParam<Case> {
 protected:
  static View view_of(std::vector<float>& values, uint32_t rows) {
    const auto columns = static_cast<uint32_t>(values.size() / rows);
    return {values.data(), rows, columns, columns};
  }
  static MatrixSlice slice_of_floats(const std::vector<float>& values, uint32_t rows) {
    const auto columns = static_cast<uint32_t>(values.size() / rows);
    return {values.data(), Element::kFloat32, columns, rows, columns};
  }
  [[nodiscard]] std::vector<float> run_linear(const LinearWeight& weight, std::vector<float> x,
                                              uint32_t rows) {
    std::vector<float> out(std::size_t{rows} * weight.out_features());
    device_.linear(weight, view_of(x, rows), view_of(out, rows));
    return out;
  }

  // What a weight made on load stands for.
  [[nodiscard]] std::vector<float> rounded(const std::vector<float>& weight, uint32_t rows) const {
    const std::size_t columns = weight.size() / rows;
    const bool is_int8 = GetParam().on_load == OnLoad::kInt8;
    std::size_t group = is_int8 ? columns : 32;
    if (!is_int8 && columns % 64 == 0) group = 64;
    if (!is_int8 && columns % 128 == 0) group = 128;
    const float largest = std::abs(
        *std::ranges::max_element(weight, {}, [](float value) { return std::abs(value); }));
    const float unit = scale_unit_for(largest / 7.0F);
    std::vector<float> out;
    std::vector<uint8_t> codes(columns);
    for (uint32_t row = 0; row < rows; ++row) {
      for (std::size_t begin = 0; begin < columns; begin += group) {
        const std::size_t count = std::min(group, columns - begin);
        const auto values = std::span(weight).subspan(row * columns + begin, count);
        const auto to = std::span(codes).first(count);
        const float scale = is_int8 ? quantize_int8(values, to)
                                    : float_of_float16(quantize_int4(
                                          values, unit, GetParam().kernels->int4_error, to)) *
                                          unit;
        for (const uint8_t code : to) {
          out.push_back(static_cast<float>(code - (is_int8 ? 128 : 8)) * scale);
        }
      }
    }
    return out;
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{Element::kFloat32, pool_, solo_, *GetParam().kernels, GetParam().on_load};
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const KernelTable* table : runnable_kernels()) {
    for (OnLoad form : {OnLoad::kInt8, OnLoad::kInt4}) cases.push_back({table, form});
  }
  return cases;
}

std::string name_of_case(const testing::TestParamInfo<Case>& test) {
  return std::string(test.param.kernels->name) +
         (test.param.on_load == OnLoad::kInt8 ? "_int8" : "_int4");
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedKernels, testing::ValuesIn(all_cases()), name_of_case);

TEST_P(QuantizedKernels, a_layer_made_on_load_is_the_reference_for_shapes_that_fit_no_tile) {
  for (uint32_t in : {1U, 7U, 64U, 129U, 384U}) {
    for (uint32_t out : {1U, 33U, 100U, 257U}) {
      const auto weight = random_values(std::size_t{out} * in, in * 1000 + out);
      const auto bias = random_values(out, out);
      auto linear = device_.load_linear(
          {.parts = {slice_of_floats(weight, out)}, .biases = {slice_of_floats(bias, 1)}});
      ASSERT_TRUE(linear.ok());
      for (uint32_t rows : {1U, 2U, 3U, 11U, 12U, 13U, 29U}) {
        const auto x = int8_values(rows, in, rows);
        expect_close(run_linear(**linear, x, rows),
                     reference::linear(x, rounded(weight, out), bias, rows, in));
      }
    }
  }
}

TEST_P(QuantizedKernels, the_largest_codes_add_up_exactly) {
  constexpr uint32_t in = 8192;
  const std::vector<float> weight(in, -1.0F);
  auto linear = device_.load_linear({.parts = {slice_of_floats(weight, 1)}});
  ASSERT_TRUE(linear.ok());
  for (const float value : {1.0F, -1.0F}) {
    const auto got = run_linear(**linear, std::vector<float>(in, value), 1);
    EXPECT_NEAR(got[0], -value * in, 1e-6F * in);
  }
}

TEST_P(QuantizedKernels, rows_of_any_values_lose_half_a_step_of_their_own_at_most) {
  constexpr uint32_t in = 300;
  constexpr uint32_t out = 40;
  const auto weight = random_values(std::size_t{out} * in, 5);
  auto linear = device_.load_linear({.parts = {slice_of_floats(weight, out)}});
  ASSERT_TRUE(linear.ok());
  auto x = random_values(std::size_t{3} * in, 6);
  for (uint32_t i = 0; i < in; ++i) {
    x[in + i] *= 1e-6F;
    x[2 * in + i] *= 1e20F;
  }
  const auto truth = rounded(weight, out);
  const auto got = run_linear(**linear, x, 3);
  const auto expected = reference::linear(x, truth, {}, 3, in);
  for (uint32_t row = 0; row < 3; ++row) {
    float largest = 0;
    for (uint32_t i = 0; i < in; ++i) largest = std::max(largest, std::abs(x[row * in + i]));
    for (uint32_t column = 0; column < out; ++column) {
      float weights = 0;
      for (uint32_t i = 0; i < in; ++i) weights += std::abs(truth[column * in + i]);
      ASSERT_NEAR(got[row * out + column], expected[row * out + column],
                  0.501F * largest / 127 * weights);
    }
  }
}

TEST_P(QuantizedKernels, a_row_has_the_same_bits_among_any_number_of_rows_and_threads) {
  constexpr uint32_t in = 300;
  constexpr uint32_t out = 203;
  constexpr uint32_t rows_max = 260;
  const auto weight = random_values(std::size_t{out} * in, 5);
  const auto bias = random_values(out, 7);
  const auto x = random_values(std::size_t{rows_max} * in, 6);
  std::vector<float> expected;
  for (const uint32_t threads : {1U, 5U}) {
    ThreadPool pool(threads);
    CpuDevice device(Element::kFloat32, pool, solo_, *GetParam().kernels, GetParam().on_load);
    for (const bool has_bias : {false, true}) {
      LinearSource source{.parts = {slice_of_floats(weight, out)}};
      if (has_bias) source.biases = {slice_of_floats(bias, 1)};
      auto linear = device.load_linear(source);
      ASSERT_TRUE(linear.ok());
      auto copy = x;
      std::vector<float> all(std::size_t{rows_max} * out);
      device.linear(**linear, view_of(copy, rows_max), view_of(all, rows_max));
      for (const uint32_t rows : {1U, 2U, 3U, 4U, 5U, 7U, 12U, 13U, 25U, 64U, 241U}) {
        std::vector<float> some(x.end() - static_cast<std::ptrdiff_t>(rows) * in, x.end());
        std::vector<float> got(std::size_t{rows} * out);
        device.linear(**linear, view_of(some, rows), view_of(got, rows));
        ASSERT_TRUE(std::equal(got.rbegin(), got.rend(), all.rbegin())) << rows << " rows";
      }
      if (!has_bias && expected.empty()) expected = all;
      if (!has_bias) {
        ASSERT_EQ(all, expected) << threads << " threads";
      }
    }
  }
}

TEST_P(QuantizedKernels, a_row_with_a_nan_or_an_infinity_gives_nan_and_its_neighbours_do_not) {
  constexpr uint32_t in = 200;
  constexpr uint32_t out = 33;
  auto linear = device_.load_linear(
      {.parts = {slice_of_floats(random_values(std::size_t{out} * in, 5), out)}});
  ASSERT_TRUE(linear.ok());
  auto x = random_values(std::size_t{4} * in, 6);
  x[in + 150] = NAN;
  x[2 * in + 3] = INFINITY;
  const auto got = run_linear(**linear, x, 4);
  for (uint32_t i = 0; i < out; ++i) {
    EXPECT_FALSE(std::isnan(got[i]));
    EXPECT_TRUE(std::isnan(got[out + i]));
    EXPECT_TRUE(std::isnan(got[2 * out + i]));
    EXPECT_FALSE(std::isnan(got[3 * out + i]));
  }
}

TEST_P(QuantizedKernels, a_weight_that_is_no_number_is_seen_in_what_is_computed_with_it) {
  constexpr uint32_t in = 200;
  constexpr uint32_t out = 70;
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (const Element element : {Element::kFloat32, Element::kBfloat16}) {
      auto weight = random_values(std::size_t{out} * in, 5);
      weight[33 * in + 150] = bad;
      std::vector<uint16_t> halves(weight.size());
      std::ranges::transform(weight, halves.begin(), bfloat16_of);
      MatrixSlice slice = slice_of_floats(weight, out);
      slice.element = element;
      if (element == Element::kBfloat16) slice.data = halves.data();
      auto linear = device_.load_linear({.parts = {slice}});
      ASSERT_TRUE(linear.ok());
      for (const uint32_t rows : {1U, 5U, 40U}) {
        const auto got = run_linear(**linear, random_values(std::size_t{rows} * in, 6), rows);
        for (uint32_t row = 0; row < rows; ++row) EXPECT_TRUE(std::isnan(got[row * out + 33]));
      }
    }
  }
}

TEST_P(QuantizedKernels, a_layer_that_stays_as_it_is_is_not_rounded) {
  const auto weight = random_values(std::size_t{40} * 50, 1);
  auto linear =
      device_.load_linear({.parts = {slice_of_floats(weight, 40)}, .narrowest = Narrowest::kAsIs});
  ASSERT_TRUE(linear.ok());
  const auto x = random_values(50, 2);
  expect_close(run_linear(**linear, x, 1), reference::linear(x, weight, {}, 1, 50));
  EXPECT_EQ((*linear)->bytes(), 64U * 50 * 4);
}

TEST_P(QuantizedKernels, a_head_has_eight_bits_at_least) {
  const auto weight = random_values(std::size_t{64} * 256, 1);
  auto linear =
      device_.load_linear({.parts = {slice_of_floats(weight, 64)}, .narrowest = Narrowest::kInt8});
  ASSERT_TRUE(linear.ok());
  EXPECT_EQ((*linear)->bytes(), 64U * 256 + 64 * 4);
}

TEST_P(QuantizedKernels, bytes_are_those_of_codes_scales_and_bias) {
  const auto weight = random_values(std::size_t{64} * 256, 1);
  auto linear = device_.load_linear({.parts = {slice_of_floats(weight, 64)}});
  ASSERT_TRUE(linear.ok());
  const bool is_int8 = GetParam().on_load == OnLoad::kInt8;
  EXPECT_EQ((*linear)->bytes(), is_int8 ? 64U * 256 + 64 * 4 : 64U * 128 + 64 * 2 * 2);
}

// Int4 of a checkpoint.

TEST_P(QuantizedKernels, groups_of_a_checkpoint_are_the_reference) {
  for (const auto& [in, group] :
       {std::pair{256U, 128U}, {192U, 64U}, {100U, 32U}, {256U, 256U}, {160U, 160U}, {96U, 16U}}) {
    for (const bool is_symmetric : {true, false}) {
      const auto matrix = std::make_shared<RandomInt4>(70, in, group, is_symmetric);
      const MatrixSlice all = slice_of(matrix, 0, 70, 0, in);
      auto linear = device_.load_linear({.parts = {all}});
      ASSERT_TRUE(linear.ok()) << linear.status();
      for (const uint32_t rows : {1U, 3U, 14U}) {
        const auto x = int8_values(rows, in, rows);
        expect_close(run_linear(**linear, x, rows),
                     reference::linear(x, values_of(all), {}, rows, in));
      }
    }
  }
}

TEST_P(QuantizedKernels, columns_in_any_order_are_the_reference) {
  const auto matrix = std::make_shared<RandomInt4>(70, 256, 64, false, false);
  const MatrixSlice all = slice_of(matrix, 0, 70, 0, 256);
  auto linear = device_.load_linear({.parts = {all}});
  ASSERT_TRUE(linear.ok()) << linear.status();
  for (const uint32_t rows : {1U, 14U}) {
    const auto x = int8_values(rows, 256, rows);
    expect_close(run_linear(**linear, x, rows),
                 reference::linear(x, values_of(all), {}, rows, 256));
  }
}

TEST_P(QuantizedKernels, slices_that_begin_within_a_group_are_the_reference) {
  for (const bool in_order : {true, false}) {
    const auto matrix = std::make_shared<RandomInt4>(70, 256, 64, false, in_order);
    for (const auto& [begin, count] : {std::pair{128U, 128U}, {32U, 96U}, {20U, 100U}}) {
      const MatrixSlice part = slice_of(matrix, 10, 45, begin, count);
      auto linear = device_.load_linear({.parts = {part}});
      ASSERT_TRUE(linear.ok()) << linear.status();
      const auto x = int8_values(3, count, 3);
      // Groups of a few columns may lack the magnitude that makes int8 exact: the bound is looser.
      const auto got = run_linear(**linear, x, 3);
      const auto expected = reference::linear(x, values_of(part), {}, 3, count);
      for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-2F);
    }
  }
}

TEST_P(QuantizedKernels, stacked_parts_are_one_matrix_and_other_orders_of_columns_are_named) {
  const auto first = std::make_shared<RandomInt4>(70, 128, 64, true);
  const auto second = std::make_shared<RandomInt4>(20, 128, 64, false);
  const MatrixSlice a = slice_of(first, 30, 40, 0, 128);
  const MatrixSlice b = slice_of(second, 0, 20, 0, 128);
  auto linear = device_.load_linear({.parts = {a, b}, .row_count = 66});
  ASSERT_TRUE(linear.ok()) << linear.status();
  auto truth = values_of(a);
  const auto rest = values_of(b);
  truth.insert(truth.end(), rest.begin(), rest.end());
  truth.resize(std::size_t{66} * 128);
  const auto x = int8_values(2, 128, 3);
  expect_close(run_linear(**linear, x, 2), reference::linear(x, truth, {}, 2, 128));

  const auto other = std::make_shared<RandomInt4>(20, 128, 64, false, false);
  const Status refused =
      device_.load_linear({.parts = {a, slice_of(other, 0, 20, 0, 128)}}).status();
  EXPECT_EQ(refused.code(), StatusCode::kUnimplemented);
  EXPECT_NE(std::string(refused.message()).find("g_idx"), std::string::npos);
}

TEST_P(QuantizedKernels, parts_that_are_not_quantised_alike_are_decoded) {
  const auto quantized = std::make_shared<RandomInt4>(70, 128, 64, true);
  const MatrixSlice part = slice_of(quantized, 0, 70, 0, 128);
  const auto plain = random_values(std::size_t{10} * 128, 1);
  auto linear = device_.load_linear({.parts = {part, slice_of_floats(plain, 10)}});
  ASSERT_TRUE(linear.ok()) << linear.status();
  auto truth = values_of(part);
  truth.insert(truth.end(), plain.begin(), plain.end());
  const auto x = random_values(128, 3);
  expect_close(run_linear(**linear, x, 1), reference::linear(x, truth, {}, 1, 128));
}

}  // namespace
}  // namespace trireme::worker::cpu
