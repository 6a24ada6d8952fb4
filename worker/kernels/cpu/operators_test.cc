// Goal: the operators of cpu_operators.cc compute their formulas, on every instruction set that
// this CPU runs. Method: the formula in double beside the kernel, for lengths that fit no vector.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/kernels/element.h"

namespace trireme::worker::cpu {
namespace {

constexpr double kTolerance = 2e-6;
constexpr uint32_t kColumns = 37;
constexpr uint32_t kRows = 3;

std::vector<float> random_values(std::size_t count, double spread, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>((random.unit() * 2 - 1) * spread);
  return values;
}

View view_of(std::vector<float>& values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  return {values.data(), rows, columns, columns};
}

MatrixSlice slice_of(const std::vector<float>& values) {
  const auto columns = static_cast<uint32_t>(values.size());
  return {values.data(), Element::kFloat32, columns, 1, columns};
}

double gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

double silu(double x) { return x / (1 + std::exp(-x)); }

class Operators : public testing::TestWithParam<const KernelTable*> {
 protected:
  [[nodiscard]] std::unique_ptr<VectorWeight> vector_of(const std::vector<float>& values) {
    auto loaded = device_.load_vector(slice_of(values));
    EXPECT_TRUE(loaded.ok());
    return std::move(loaded).value();
  }

  // `out` is `in` through `expected`, each value by itself.
  static void expect_mapped(const std::vector<float>& out, const std::vector<float>& in,
                            const std::function<double(double)>& expected) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double value = expected(static_cast<double>(in[i]));
      ASSERT_NEAR(out[i], value, kTolerance * std::max(1.0, std::abs(value))) << "of " << in[i];
    }
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{Element::kFloat32, pool_, solo_, *GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, Operators, testing::ValuesIn(runnable_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(Operators, activations_are_their_formulas) {
  const auto in = random_values(std::size_t{kRows} * kColumns, 12, 1);
  const std::pair<Activation, double (*)(double)> cases[] = {
      {Activation::kSilu, silu}, {Activation::kGelu, gelu}, {Activation::kGeluTanh, gelu_tanh}};
  for (const auto& [activation, formula] : cases) {
    auto x = in;
    device_.activate(activation, view_of(x, kRows));
    expect_mapped(x, in, formula);
  }
}

TEST_P(Operators, a_gated_feed_forward_block_multiplies_the_activation_by_the_other_half) {
  // Identity matrices: gate is x, up is 2 · x.
  constexpr uint32_t size = 64;
  std::vector<float> one(std::size_t{size} * size);
  std::vector<float> two(one.size());
  for (uint32_t i = 0; i < size; ++i) {
    one[i * size + i] = 1;
    two[i * size + i] = 2;
  }
  const auto slice = [](const std::vector<float>& values) {
    return MatrixSlice{values.data(), Element::kFloat32, size, size, size};
  };
  const auto gate_up = device_.load_linear({.parts = {slice(one), slice(two)}});
  const auto down = device_.load_linear({.parts = {slice(one)}});
  const auto alone = device_.load_linear({.parts = {slice(two)}});
  ASSERT_TRUE(gate_up.ok() && down.ok() && alone.ok());
  const std::pair<Activation, double (*)(double)> cases[] = {
      {Activation::kSilu, silu}, {Activation::kGelu, gelu}, {Activation::kGeluTanh, gelu_tanh}};
  for (const auto& [activation, formula] : cases) {
    auto x = random_values(std::size_t{kRows} * size, 4, 2);
    std::vector<float> out(x.size());
    device_.feed_forward(activation, **gate_up, **down, view_of(x, kRows), view_of(out, kRows));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto value = static_cast<double>(x[i]);
      ASSERT_NEAR(out[i], formula(value) * 2 * value, 1e-5);
    }
    device_.feed_forward(activation, **alone, **down, view_of(x, kRows), view_of(out, kRows));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(out[i], formula(2 * static_cast<double>(x[i])), 1e-5);
    }
  }
}

TEST_P(Operators, capped_logits_bend_towards_the_cap) {
  auto x = random_values(1000, 200, 3);
  const auto in = x;
  device_.cap_logits(30, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(x[i], 30 * std::tanh(static_cast<double>(in[i]) / 30), 1e-5);
  }
}

TEST_P(Operators, layer_norm_centres_and_scales_with_and_without_bias) {
  auto x = random_values(std::size_t{kRows} * kColumns, 3, 4);
  const auto weight = random_values(kColumns, 1, 5);
  const auto bias = random_values(kColumns, 1, 6);
  for (const bool has_bias : {false, true}) {
    std::vector<float> out(x.size());
    device_.layer_norm(view_of(x, kRows), *vector_of(weight),
                       has_bias ? vector_of(bias).get() : nullptr, 1e-5F, view_of(out, kRows));
    for (uint32_t row = 0; row < kRows; ++row) {
      const auto values = std::span(x).subspan(row * kColumns, kColumns);
      double mean = 0;
      double variance = 0;
      for (const float value : values) mean += static_cast<double>(value) / kColumns;
      for (const float value : values) variance += std::pow(value - mean, 2) / kColumns;
      for (uint32_t i = 0; i < kColumns; ++i) {
        const double expected = (values[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] +
                                (has_bias ? static_cast<double>(bias[i]) : 0.0);
        ASSERT_NEAR(out[row * kColumns + i], expected, 5e-6);
      }
    }
  }
}

TEST_P(Operators, a_wide_rms_norm_of_one_rank_is_an_rms_norm) {
  auto x = random_values(std::size_t{kRows} * kColumns, 3, 7);
  const auto weight = vector_of(random_values(kColumns, 1, 8));
  std::vector<float> expected(x.size());
  device_.rms_norm(view_of(x, kRows), *weight, 1e-6F, view_of(expected, kRows));
  device_.wide_rms_norm(view_of(x, kRows), *weight, 1e-6F);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], expected[i], 2e-6);
}

TEST_P(Operators, a_vector_is_its_parts_plus_what_is_added) {
  const std::vector<float> first = {1, 2, 3};
  const std::vector<float> second = {4, 5, 6};
  auto weight =
      device_.load_vector(VectorSource{.parts = {slice_of(first), slice_of(second)}, .added = 1});
  ASSERT_TRUE(weight.ok());
  auto x = std::vector<float>{-1, 0, 1, -1, 0, 1};
  device_.head_layer_norm(view_of(x, 1), 3, **weight, 0);
  const double edge = std::sqrt(1.5);
  const double expected[] = {-2 * edge, 0, 4 * edge, -5 * edge, 0, 7 * edge};
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], 1e-5);
}

TEST_P(Operators, a_transposed_matrix_is_packed_as_its_transpose) {
  const auto stored = random_values(std::size_t{kColumns} * 5, 1, 9);  // [in][out]
  const MatrixSlice slice{.data = stored.data(),
                          .row_stride = 1,
                          .row_count = 5,
                          .column_count = kColumns,
                          .column_stride = 5};
  auto linear = device_.load_linear({.parts = {slice}});
  ASSERT_TRUE(linear.ok());
  auto x = random_values(kColumns, 1, 10);
  std::vector<float> out(5);
  device_.linear(**linear, view_of(x, 1), view_of(out, 1));
  for (std::size_t row = 0; row < 5; ++row) {
    double sum = 0;
    for (std::size_t k = 0; k < kColumns; ++k) {
      sum += static_cast<double>(x[k]) * stored[k * 5 + row];
    }
    EXPECT_NEAR(out[row], sum, 1e-5);
  }
}

// A table as a checkpoint has it, in any element.
std::vector<std::byte> stored_as(Element element, const std::vector<float>& values) {
  std::vector<std::byte> stored(element_bytes(element) * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const uint16_t half =
        element == Element::kBfloat16 ? bfloat16_of(values[i]) : float16_of(values[i]);
    const void* from = element == Element::kFloat32 ? static_cast<const void*>(&values[i]) : &half;
    std::memcpy(stored.data() + element_bytes(element) * i, from, element_bytes(element));
  }
  return stored;
}

std::vector<uint32_t> embedded_bits(CpuDevice& device, const EmbeddingWeight& table,
                                    uint32_t columns, const std::vector<int32_t>& tokens) {
  std::vector<float> out(columns * tokens.size(), 7.0F);
  const ForwardBatch batch{.tokens = tokens};  // The device looks at it until the step ends.
  device.begin_step(batch, {});
  device.embed(table, view_of(out, static_cast<uint32_t>(tokens.size())));
  EXPECT_TRUE(device.end_step().ok());
  std::vector<uint32_t> bits;
  for (const float value : out) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

TEST_P(Operators, rows_of_a_packed_head_are_those_of_the_checkpoint_bit_for_bit) {
  constexpr uint32_t vocabulary = 2 * kPanelColumns + 5;
  std::vector<int32_t> tokens = {-1, vocabulary, 1 << 30};
  for (int32_t token = 0; token < static_cast<int32_t>(vocabulary); ++token) {
    tokens.push_back(token);
  }
  for (const uint32_t columns : {kColumns, 48U}) {
    const auto values = random_values(std::size_t{vocabulary} * columns, 3, 11);
    for (const Element stored : {Element::kBfloat16, Element::kFloat16, Element::kFloat32}) {
      const auto bytes = stored_as(stored, values);
      const MatrixSlice table{bytes.data(), stored, columns, vocabulary, columns};
      for (const Element computed : {Element::kBfloat16, Element::kFloat32}) {
        CpuDevice device(computed, pool_, solo_, *GetParam());
        const auto of_file = device.load_embedding(table);
        const auto head = device.load_linear({.parts = {table}});
        ASSERT_TRUE(of_file.ok() && head.ok());
        const auto of_head = device.embedding_of(**head);
        ASSERT_NE(of_head, nullptr);
        EXPECT_EQ(of_head->bytes(), 0u) << "the head counts them";
        EXPECT_EQ(embedded_bits(device, *of_head, columns, tokens),
                  embedded_bits(device, **of_file, columns, tokens))
            << columns << " columns";
      }
    }
  }
}

TEST_P(Operators, codes_of_a_quantised_matrix_are_no_embedding) {
  const auto values = random_values(std::size_t{kPanelColumns} * 64, 1, 12);
  const MatrixSlice matrix{values.data(), Element::kFloat32, 64, kPanelColumns, 64};
  for (const OnLoad on_load : {OnLoad::kInt8, OnLoad::kInt4}) {
    CpuDevice device(Element::kFloat32, pool_, solo_, *GetParam(), on_load);
    const auto codes = device.load_linear({.parts = {matrix}});
    ASSERT_TRUE(codes.ok());
    EXPECT_EQ(device.embedding_of(**codes), nullptr);
  }
}

}  // namespace
}  // namespace trireme::worker::cpu
