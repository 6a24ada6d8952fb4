// Goal: a linear layer of codes is the reference over the numbers that they mean, for shapes that
// fit no tile; a row's bits do not depend on the others, and what is no number stays alone. Method:
// the kernels themselves, on the emulated GPU of every build (on_host/), or on one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "worker/kernels/cpu/kernel_choice.h"
#include "worker/kernels/cuda/device_for_test.h"
#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/reference/reference.h"
#include "worker/weights/byte_codes.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cuda {
namespace {

using Kind = QuantizedMatrix::Kind;

// Of the largest value: fp32 chains of some hundred terms, and a scale for each group.
constexpr float kCodedTolerance = 5e-6F;

struct CodeShape {
  Kind kind = Kind::kInt4Groups;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t group_columns = 32;
  bool is_symmetric = false;
  bool is_in_order = true;
};

class RandomCodes final : public QuantizedMatrix {
 public:
  explicit RandomCodes(const CodeShape& shape)
      : shape_(shape), group_count_((shape.columns - 1) / shape.group_columns + 1) {
    Random random(shape.rows * 1000 + shape.columns);
    for (uint32_t i = 0; i < shape.columns; ++i) groups_.push_back(i / shape.group_columns);
    for (uint32_t i = shape.columns - 1; i > 0 && !shape.is_in_order; --i) {
      std::swap(groups_[i], groups_[static_cast<uint32_t>(random.unit() * i)]);
    }
    for (uint32_t i = 0; i < shape.rows * shape.columns; ++i) {
      uint32_t code = static_cast<uint32_t>(random.unit() * (1 << bits()));
      if (shape.kind == Kind::kFloat8Groups && (code & 0x7f) == 0x7f) code = 0;  // A NaN.
      codes_.push_back(static_cast<uint8_t>(code));
    }
    for (uint32_t i = 0; i < shape.rows * group_count_; ++i) {
      scales_.push_back(static_cast<float>(random.unit() * 0.1 + 1e-4));
      const double zero = random.unit() * ((1 << bits()) + 1);
      zeros_.push_back(shape.is_symmetric ? middle() : static_cast<uint32_t>(zero));
    }
  }
  void set_code(uint32_t row, uint32_t column, uint8_t code) {
    codes_[std::size_t{row} * shape_.columns + column] = code;
  }
  void set_scale(uint32_t row, float scale) { scales_[std::size_t{row} * group_count_] = scale; }

  [[nodiscard]] Kind kind() const override { return shape_.kind; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  void read_values(uint32_t row, uint32_t column_begin, std::span<float> out) const override {
    for (uint32_t i = 0; i < out.size(); ++i) {
      const uint32_t column = column_begin + i;
      const uint8_t code = codes_[std::size_t{row} * shape_.columns + column];
      const uint32_t group = groups_[column];
      const float value = shape_.kind == Kind::kFloat8Groups
                              ? float_of_float8(code)
                              : static_cast<float>(code) - static_cast<float>(zero(row, group));
      out[i] = value * scale(row, group);
    }
  }
  void read_codes(uint32_t row, uint32_t column_begin, std::span<uint8_t> out) const override {
    std::copy_n(codes_.begin() + std::ptrdiff_t{row} * shape_.columns + column_begin, out.size(),
                out.begin());
  }
  [[nodiscard]] uint32_t group_of(uint32_t column) const override { return groups_[column]; }
  [[nodiscard]] float scale(uint32_t row, uint32_t group) const override {
    return scales_[std::size_t{row} * group_count_ + group];
  }
  [[nodiscard]] uint32_t zero(uint32_t row, uint32_t group) const override {
    return zeros_[std::size_t{row} * group_count_ + group];
  }
  [[nodiscard]] bool is_symmetric() const override { return shape_.is_symmetric; }
  [[nodiscard]] uint32_t group_columns() const override { return shape_.group_columns; }

 private:
  [[nodiscard]] uint32_t bits() const { return shape_.kind == Kind::kInt4Groups ? 4 : 8; }
  [[nodiscard]] uint32_t middle() const { return 1U << (bits() - 1); }

  const std::string name_ = "random";
  const CodeShape shape_;
  const uint32_t group_count_;
  std::vector<uint32_t> groups_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<uint32_t> zeros_;
};

// Some rows and columns of a matrix.
MatrixSlice slice_of(std::shared_ptr<const QuantizedMatrix> matrix, uint32_t row_begin,
                     uint32_t rows, uint32_t column_begin, uint32_t columns) {
  return {.row_count = rows,
          .column_count = columns,
          .quantized = std::move(matrix),
          .row_begin = row_begin,
          .column_begin = column_begin};
}

MatrixSlice random_slice(const CodeShape& shape) {
  return slice_of(std::make_shared<RandomCodes>(shape), 0, shape.rows, 0, shape.columns);
}

// What its codes mean.
std::vector<float> values_of(const MatrixSlice& slice) {
  std::vector<float> values(std::size_t{slice.row_count} * slice.column_count);
  for (uint32_t row = 0; row < slice.row_count; ++row) {
    slice.quantized->read_values(
        slice.row_begin + row, slice.column_begin,
        std::span(values).subspan(std::size_t{row} * slice.column_count, slice.column_count));
  }
  return values;
}

// Rows of x as the int8 codes that they become mean.
std::vector<float> int8_rounded(std::vector<float> x, uint32_t rows) {
  const std::size_t columns = x.size() / rows;
  std::vector<uint8_t> codes(columns);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto values = std::span(x).subspan(row * columns, columns);
    const float scale = quantize_int8(values, codes);
    for (std::size_t i = 0; i < columns; ++i) {
      values[i] = (static_cast<float>(codes[i]) - 128) * scale;
    }
  }
  return x;
}

class CudaCodes : public testing::TestWithParam<Element> {
 protected:
  [[nodiscard]] static std::vector<float> as_stored(std::vector<float> values) {
    for (float& value : values) {
      if (GetParam() == Element::kBfloat16) value = rounded_to_bfloat16(value);
      if (GetParam() == Element::kFloat16) value = float_of_float16(float16_of(value));
    }
    return values;
  }
  [[nodiscard]] static std::vector<float> rounded_x(Kind kind, std::vector<float> x,
                                                    uint32_t rows) {
    return kind == Kind::kInt8Rows ? int8_rounded(std::move(x), rows) : as_stored(std::move(x));
  }
  [[nodiscard]] std::unique_ptr<LinearWeight> load(const LinearSource& source) const {
    auto linear = device_->load_linear(source);
    EXPECT_TRUE(linear.ok()) << linear.status();
    return std::move(linear).value();
  }
  [[nodiscard]] std::vector<float> run(const LinearWeight& weight, std::span<const float> x,
                                       uint32_t rows) const {
    const View y = device_.empty(1, rows, weight.out_features());
    device_->linear(weight, device_.upload(0, x, rows), y);
    return device_.values_of(y);
  }

  TestedDevice device_{GetParam()};
};

std::string name_of_element(const testing::TestParamInfo<Element>& test) {
  if (test.param == Element::kFloat32) return "fp32";
  return test.param == Element::kBfloat16 ? "bf16" : "fp16";
}

INSTANTIATE_TEST_SUITE_P(All, CudaCodes,
                         testing::Values(Element::kFloat32, Element::kBfloat16, Element::kFloat16),
                         name_of_element);

// Groups that are cut into smaller ones, padded, in order or not, one for all columns.
std::vector<CodeShape> code_shapes() {
  std::vector<CodeShape> shapes;
  for (const Kind kind : {Kind::kInt4Groups, Kind::kInt8Groups, Kind::kFloat8Groups}) {
    shapes.push_back({kind, 1, 1, 32});
    shapes.push_back({kind, 66, 96, 32});
    shapes.push_back({kind, 33, 129, 64, true});
    shapes.push_back({kind, 70, 320, 256});
    shapes.push_back({kind, 31, 96, 48});
    shapes.push_back({kind, 40, 200, 200, true});
    shapes.push_back({kind, 20, 160, 32, false, false});
  }
  for (const uint32_t columns : {1U, 7U, 64U, 129U, 300U}) {
    shapes.push_back({Kind::kInt8Rows, columns % 3 + 65, columns, columns, true});
  }
  return shapes;
}

TEST_P(CudaCodes, a_layer_is_the_reference_over_the_numbers_that_they_mean) {
  for (const CodeShape& shape : code_shapes()) {
    const MatrixSlice slice = random_slice(shape);
    const auto bias = as_stored(random_values(shape.rows, shape.rows));
    const auto linear = load({.parts = {slice}, .biases = {cuda::slice_of(bias, 1)}});
    for (const uint32_t rows : {1U, 3U, 17U, 70U}) {
      const auto x = random_values(std::size_t{rows} * shape.columns, rows);
      SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(shape.kind) << ", "
                                      << shape.columns << " columns, " << rows << " rows");
      expect_close(run(*linear, x, rows),
                   reference::linear(rounded_x(shape.kind, x, rows), values_of(slice), bias, rows,
                                     shape.columns),
                   kCodedTolerance);
    }
  }
}

TEST_P(CudaCodes, a_row_has_the_same_bits_among_any_number_of_rows) {
  constexpr uint32_t rows_max = 66;
  for (const CodeShape& shape :
       {CodeShape{Kind::kInt4Groups, 70, 160, 32, false, false},
        CodeShape{Kind::kInt8Groups, 70, 128, 64}, CodeShape{Kind::kFloat8Groups, 70, 100, 100},
        CodeShape{Kind::kInt8Rows, 70, 100, 100}}) {
    const auto linear = load({.parts = {random_slice(shape)}});
    const auto values = random_values(std::size_t{rows_max} * shape.columns, 6);
    const View x = device_.upload(0, values, rows_max);
    const View y = device_.empty(1, rows_max, shape.rows);
    device_->linear(*linear, x, y);
    const auto all = device_.values_of(y);
    for (const uint32_t rows : {1U, 2U, 8U, 9U, 15U, 17U, 65U}) {
      const View some = device_.empty(2, rows, shape.rows);
      device_->linear(*linear, x.rows(rows_max - rows, rows), some);
      const auto got = device_.values_of(some);
      ASSERT_TRUE(std::equal(got.rbegin(), got.rend(), all.rbegin())) << rows << " rows";
    }
  }
}

// As q, k and v of a tensor-parallel rank that begins within a group.
TEST_P(CudaCodes, stacked_parts_of_some_columns_are_one_matrix_with_padding) {
  for (const bool is_in_order : {true, false}) {
    const auto first =
        std::make_shared<RandomCodes>(CodeShape{Kind::kInt4Groups, 9, 128, 64, false, is_in_order});
    const MatrixSlice q = slice_of(first, 2, 5, 32, 96);
    const MatrixSlice k = slice_of(first, 0, 9, 32, 96);
    const auto linear = load({.parts = {q, k}, .row_count = 20});
    EXPECT_EQ(linear->out_features(), 20U);
    auto values = values_of(q);
    const auto more = values_of(k);
    values.insert(values.end(), more.begin(), more.end());
    values.resize(std::size_t{20} * 96);
    const auto x = as_stored(random_values(std::size_t{2} * 96, 3));
    expect_close(run(*linear, x, 2), reference::linear(x, values, {}, 2, 96), kCodedTolerance);
  }
}

TEST_P(CudaCodes, parts_that_are_quantised_in_different_ways_are_decoded) {
  const MatrixSlice codes = random_slice({Kind::kInt4Groups, 7, 64, 32});
  const MatrixSlice bytes = random_slice({Kind::kFloat8Groups, 6, 64, 64});
  const auto linear = load({.parts = {codes, bytes}});
  auto values = values_of(codes);
  const auto more = values_of(bytes);
  values.insert(values.end(), more.begin(), more.end());
  const auto x = as_stored(random_values(64, 3));
  expect_close(run(*linear, x, 1), reference::linear(x, as_stored(values), {}, 1, 64),
               kCodedTolerance);
}

TEST_P(CudaCodes, layers_that_group_their_columns_differently_are_refused_by_name) {
  const MatrixSlice ordered = random_slice({Kind::kInt4Groups, 7, 64, 32});
  const MatrixSlice other = random_slice({Kind::kInt4Groups, 7, 64, 32, false, false});
  const auto linear = device_->load_linear({.parts = {ordered, other}});
  EXPECT_EQ(linear.status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(linear.status().message()), testing::HasSubstr("g_idx"));
}

TEST_P(CudaCodes, every_float8_is_its_number) {
  auto codes = std::make_shared<RandomCodes>(CodeShape{Kind::kFloat8Groups, 256, 1, 32});
  for (uint32_t code = 0; code < 256; ++code) {
    codes->set_code(code, 0, static_cast<uint8_t>(code));
    codes->set_scale(code, 1);
  }
  const auto got = run(*load({.parts = {slice_of(codes, 0, 256, 0, 1)}}), std::vector{1.0F}, 1);
  for (uint32_t code = 0; code < 256; ++code) {
    const float expected = float_of_float8(static_cast<uint8_t>(code));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got[code])) << code;
    } else {
      EXPECT_EQ(got[code], expected) << code;
    }
  }
}

TEST_P(CudaCodes, the_largest_int8_codes_add_up_exactly) {
  constexpr uint32_t in = 8192;
  auto codes = std::make_shared<RandomCodes>(CodeShape{Kind::kInt8Rows, 1, in, in, true});
  for (uint32_t i = 0; i < in; ++i) codes->set_code(0, i, 0);  // It means -128.
  codes->set_scale(0, 1);
  const auto linear = load({.parts = {slice_of(codes, 0, 1, 0, in)}});
  for (const float value : {127.0F, -127.0F}) {
    EXPECT_EQ(run(*linear, std::vector<float>(in, value), 1)[0], -128 * value * in);
  }
}

TEST_P(CudaCodes, sums_that_could_leave_int32_are_refused) {
  constexpr uint32_t in = 131073;
  const auto linear =
      device_->load_linear({.parts = {random_slice({Kind::kInt8Rows, 1, in, in, true})}});
  EXPECT_EQ(linear.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(linear.status().message()), testing::HasSubstr("131073"));
}

TEST_P(CudaCodes, what_is_no_number_stays_in_its_row_and_column) {
  for (const Kind kind : {Kind::kInt4Groups, Kind::kFloat8Groups, Kind::kInt8Rows}) {
    auto codes = std::make_shared<RandomCodes>(CodeShape{kind, 5, 64, 64, true});
    codes->set_scale(2, NAN);
    const auto linear = load({.parts = {slice_of(codes, 0, 5, 0, 64)}});
    for (const float bad : {NAN, INFINITY}) {
      auto x = random_values(std::size_t{3} * 64, 1);
      x[64 + 5] = bad;
      const auto got = run(*linear, x, 3);
      for (uint32_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(!std::isfinite(got[i]), i / 5 == 1 || i % 5 == 2) << i;
      }
    }
  }
}

// Of the columns of a matrix made on load.
std::vector<float> as_made(const std::vector<float>& weight, uint32_t rows, cpu::OnLoad on_load) {
  const std::size_t columns = weight.size() / rows;
  const bool is_int8 = on_load == cpu::OnLoad::kInt8;
  const std::size_t group = is_int8 ? columns : columns % 64 == 0 ? 64 : 32;
  const float unit = scale_unit_for(largest_magnitude(weight) / 7.0F);
  std::vector<float> values;
  std::vector<uint8_t> codes(columns);
  for (std::size_t begin = 0; begin < weight.size();) {
    const std::size_t count = std::min(group, columns - begin % columns);
    const auto from = std::span(weight).subspan(begin, count);
    const auto to = std::span(codes).first(count);
    const float scale = is_int8 ? quantize_int8(from, to)
                                : unit * float_of_float16(quantize_int4(
                                             from, unit, cpu::best_kernels().int4_error, to));
    for (const uint8_t code : to) {
      values.push_back((static_cast<float>(code) - (is_int8 ? 128 : 8)) * scale);
    }
    begin += count;
  }
  return values;
}

TEST(CudaCodesOnLoad, are_those_of_the_cpu) {
  for (const auto on_load : {cpu::OnLoad::kInt8, cpu::OnLoad::kInt4}) {
    SoloCollective solo;
    auto device = CudaDevice::create({.element = Element::kFloat32, .on_load = on_load}, solo);
    ASSERT_TRUE(device.ok());
    for (const uint32_t in : {7U, 64U, 100U}) {
      const auto weight = random_values(std::size_t{33} * in, in);
      const auto linear = (*device)->load_linear({.parts = {cuda::slice_of(weight, 33)}});
      ASSERT_TRUE(linear.ok()) << linear.status();
      (*device)->begin_step({}, {});
      const View x = (*device)->scratch(0, 2, in);
      const auto values = random_values(std::size_t{2} * in, 4);
      (*device)->write_from(values, x);
      const View y = (*device)->scratch(1, 2, 33);
      (*device)->linear(**linear, x, y);
      std::vector<float> got(2 * 33);
      (*device)->read_back(y, got);
      ASSERT_TRUE((*device)->end_step().ok());
      const auto rounded = on_load == cpu::OnLoad::kInt8 ? int8_rounded(values, 2) : values;
      expect_close(got, reference::linear(rounded, as_made(weight, 33, on_load), {}, 2, in),
                   kCodedTolerance);
    }
  }
}

// A head and a router.
TEST(CudaCodesOnLoad, go_no_further_than_a_layer_allows) {
  SoloCollective solo;
  auto device =
      CudaDevice::create({.element = Element::kFloat32, .on_load = cpu::OnLoad::kInt4}, solo);
  ASSERT_TRUE(device.ok());
  const auto weight = random_values(std::size_t{64} * 128, 1);
  const auto bytes_at = [&](Narrowest narrowest) {
    const auto linear =
        (*device)->load_linear({.parts = {cuda::slice_of(weight, 64)}, .narrowest = narrowest});
    EXPECT_TRUE(linear.ok());
    return (*linear)->bytes();
  };
  EXPECT_EQ(bytes_at(Narrowest::kInt4), 64 * 128 / 2 + 64 * sizeof(float));
  EXPECT_EQ(bytes_at(Narrowest::kInt8), 64 * 128 + 64 * sizeof(float));
}

}  // namespace
}  // namespace trireme::worker::cuda
