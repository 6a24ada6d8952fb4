// Goal: --quantization computes with the codes and scales that rounding gives, in the groups that
// the docs say, and nothing else is lost but what int8 activations lose. Method: a golden model
// written down as a checkpoint of these codes, whose bits must be the same (what such checkpoints
// mean, quantized_test.cc says), and as one of the numbers that they mean, in fp32. What rounding
// loses is quantize_test.cc's matter, and docs/models.md's for a whole model.
#include <gtest/gtest.h>

#include "tests/numerics/checkpoint_for_test.h"
#include "tests/numerics/model_for_test.h"
#include "worker/kernels/cpu/kernel_choice.h"
#include "worker/kernels/quantize.h"
#include "worker/weights/stored_values.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kBlocks = 4;
const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8};

// What quantising a matrix makes of it.
struct Rounded {
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t group_columns = 0;
  uint32_t zero = 0;           // The code that means 0.
  std::vector<uint8_t> codes;  // [rows][columns]
  std::vector<float> scales;   // [rows][groups]

  [[nodiscard]] uint32_t group_count() const {
    return (columns + group_columns - 1) / group_columns;
  }
  [[nodiscard]] float value(uint32_t row, uint32_t column) const {
    const int code = codes[std::size_t{row} * columns + column];
    return static_cast<float>(code - static_cast<int>(zero)) *
           scales[std::size_t{row} * group_count() + column / group_columns];
  }
};

Rounded rounded_to_int8(std::span<const float> values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  Rounded made{.rows = rows, .columns = columns, .group_columns = columns, .zero = 128};
  made.codes.resize(values.size());
  for (std::size_t at = 0; at < values.size(); at += columns) {
    made.scales.push_back(
        quantize_int8(values.subspan(at, columns), std::span(made.codes).subspan(at, columns)));
  }
  return made;
}

Rounded rounded_to_int4(std::span<const float> values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  Rounded made{.rows = rows, .columns = columns, .group_columns = 32, .zero = 8};
  for (const uint32_t size : {64U, 128U}) {
    if (columns % size == 0) made.group_columns = size;
  }
  made.codes.resize(values.size());
  const float unit = scale_unit_for(largest_magnitude(values) / 7.0F);
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t begin = 0; begin < columns; begin += made.group_columns) {
      const std::size_t at = std::size_t{row} * columns + begin;
      const uint32_t count = std::min(made.group_columns, columns - begin);
      const uint16_t scale =
          quantize_int4(values.subspan(at, count), unit, cpu::best_kernels().int4_error,
                        std::span(made.codes).subspan(at, count));
      made.scales.push_back(float_of_float16(scale) * unit);
    }
  }
  return made;
}

template <typename Value>
std::string bytes_of_values(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

// Eight codes in a word, the first one lowest.
std::vector<uint32_t> words_of(const std::vector<uint8_t>& codes) {
  std::vector<uint32_t> words(codes.size() / 8);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    words[i / 8] |= static_cast<uint32_t>(codes[i]) << (i % 8 * 4);
  }
  return words;
}

// As compressed-tensors has it.
void add_codes(CheckpointForTest& checkpoint, const std::string& layer, const Rounded& matrix) {
  if (matrix.zero == 8) {
    checkpoint.add(layer + ".weight_packed", "I32", {matrix.rows, matrix.columns / 8},
                   bytes_of_values(words_of(matrix.codes)));
  } else {
    std::vector<uint8_t> bytes = matrix.codes;
    for (uint8_t& byte : bytes) byte ^= 0x80U;
    checkpoint.add(layer + ".weight", "I8", {matrix.rows, matrix.columns}, bytes_of_values(bytes));
  }
  checkpoint.add(layer + ".weight_scale", "F32", {matrix.rows, matrix.group_count()},
                 bytes_of_values(matrix.scales));
}

void add_values(CheckpointForTest& checkpoint, const std::string& layer, const Rounded& matrix) {
  std::vector<float> values;
  for (uint32_t row = 0; row < matrix.rows; ++row) {
    for (uint32_t i = 0; i < matrix.columns; ++i) values.push_back(matrix.value(row, i));
  }
  checkpoint.add(layer + ".weight", "F32", {matrix.rows, matrix.columns}, bytes_of_values(values));
}

constexpr std::string_view kInt8Config =
    R"("quantization_config":{"quant_method":"compressed-tensors","format":"int-quantized",)"
    R"("config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int","strategy":"channel",)"
    R"("symmetric":true}}}},)";
constexpr std::string_view kInt4Config =
    R"("quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized",)"
    R"("config_groups":{"group_0":{"weights":{"num_bits":4,"type":"int","strategy":"group",)"
    R"("group_size":64,"symmetric":true}}}},)";

// The golden Llama; with 64 intermediate columns instead of its 80 all of its groups are of 64, and
// a checkpoint has one size.
struct Source {
  explicit Source(bool has_even_groups) : config(text_of(kGoldenFolder / "llama/config.json")) {
    std::string weights = text_of(kGoldenFolder / "llama/weights.txt");
    if (has_even_groups) {
      replace_all(config, "\"intermediate_size\": 80", "\"intermediate_size\": 64");
      replace_all(weights, " 80", " 64");
    }
    const TestDirectory written;
    written.write("config.json", config);
    write_generated_weights(written.write("weights.txt", weights), written);
    auto opened = ModelDirectory::open(written.path());
    EXPECT_TRUE(opened.ok()) << opened.status();
    directory.emplace(std::move(opened).value());
  }
  std::string config;
  std::optional<ModelDirectory> directory;
};

class QuantizedOnLoad : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::vector<float> run(const ModelDirectory& directory, const LoadOptions& options,
                                       uint32_t chunk = 19) {
    auto model = load_model(directory, WorkerPlace{}, options, solo_, pool_, {});
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return {};
    EXPECT_TRUE((*model)->allocate_kv(kBlocks).ok());
    return run_sequence(**model, kTokens, chunk);
  }

  // The source with its matrices as `add` has them, the head with eight bits in any case.
  using Add = void (*)(CheckpointForTest&, const std::string& layer, const Rounded& matrix);
  [[nodiscard]] static CheckpointForTest rounded(const ModelDirectory& source, Add add) {
    CheckpointForTest checkpoint;
    for (const TensorView& tensor : source.weights().tensors()) {
      const std::string name(tensor.name);
      if (tensor.shape.size() != 2 || name == "model.embed_tokens.weight") {
        checkpoint.add_copy(tensor);
        continue;
      }
      const StoredFloats stored(tensor, *float_element(tensor.dtype));
      std::vector<float> values(static_cast<std::size_t>(tensor.shape[0] * tensor.shape[1]));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = stored[i];
      const bool is_int8 = GetParam() == "int8" || name == "lm_head.weight";
      const auto rows = static_cast<uint32_t>(tensor.shape[0]);
      add(checkpoint, name.substr(0, name.rfind('.')),
          is_int8 ? rounded_to_int8(values, rows) : rounded_to_int4(values, rows));
    }
    return checkpoint;
  }

  SoloCollective solo_;
  ThreadPool pool_{2};
};

INSTANTIATE_TEST_SUITE_P(All, QuantizedOnLoad, testing::Values("int8", "int4"),
                         [](const auto& test) { return test.param; });

TEST_P(QuantizedOnLoad, bits_are_those_of_a_checkpoint_with_the_same_codes) {
  const Source source(true);
  std::string config = source.config;
  config.insert(1, GetParam() == "int8" ? kInt8Config : kInt4Config);
  const ModelDirectory stored = rounded(*source.directory, add_codes).open(config);
  for (const std::string dtype : {"auto", "float32"}) {
    const auto made = run(*source.directory, {.dtype = dtype, .quantization = GetParam()});
    ASSERT_EQ(made.size(), kTokens.size() * 60);
    EXPECT_EQ(run(stored, {.dtype = dtype}), made) << dtype;
  }
}

TEST_P(QuantizedOnLoad, logits_are_those_of_the_numbers_that_the_codes_mean) {
  // Of the largest logit: what int8 activations lose in two layers of so few columns.
  constexpr float kTolerance = 0.055F;
  const Source source(false);
  const ModelDirectory decoded = rounded(*source.directory, add_values).open(source.config);
  const auto expected = run(decoded, {.dtype = "float32"});
  const float largest = std::abs(
      *std::ranges::max_element(expected, {}, [](float value) { return std::abs(value); }));
  const auto got = run(*source.directory, {.dtype = "float32", .quantization = GetParam()});
  EXPECT_LT(largest_difference(got, expected), kTolerance * largest);
}

TEST_P(QuantizedOnLoad, bits_do_not_depend_on_chunks) {
  const ModelDirectory directory = open_golden("llama");
  const auto all = run(directory, {.quantization = GetParam()});
  EXPECT_EQ(run(directory, {.quantization = GetParam()}, 1), all);
  EXPECT_EQ(run(directory, {.quantization = GetParam()}, 7), all);
}

TEST(QuantizedOnLoadFlag, methods_of_checkpoints_are_refused_where_nothing_is_quantised) {
  const ModelDirectory directory = open_golden("llama");
  SoloCollective solo;
  ThreadPool pool(1);
  const Status status =
      load_model(directory, WorkerPlace{}, {.quantization = "gptq"}, solo, pool, {}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("--quantization gptq"), std::string::npos);
}

// Columns of these small models are padded to whole blocks when they are packed: up to a half.
TEST(QuantizedOnLoadFlag, bytes_to_load_are_about_what_is_loaded) {
  SoloCollective solo;
  ThreadPool pool(1);
  for (const std::string name : {"llama", "llama_tied", "gemma", "mixtral"}) {
    const ModelDirectory directory = open_golden(name);
    for (const std::string dtype : {"auto", "bfloat16", "float16", "float32"}) {
      for (const std::string quantization : {"", "int8", "int4"}) {
        SCOPED_TRACE(name + " " + dtype + " " + quantization);
        const LoadOptions options{.dtype = dtype, .quantization = quantization};
        auto model = load_model(directory, WorkerPlace{}, options, solo, pool, {});
        ASSERT_TRUE(model.ok()) << model.status();
        const auto taken = static_cast<double>((*model)->weight_bytes());
        const auto guess = weight_bytes_to_load(directory, dtype, quantization);
        ASSERT_TRUE(guess.ok()) << guess.status();
        EXPECT_GT(static_cast<double>(*guess), taken * 0.6);
        EXPECT_LT(static_cast<double>(*guess), taken * 1.1);
        const auto twice = weight_bytes_to_load(directory, dtype, quantization, 2);
        ASSERT_TRUE(twice.ok()) << twice.status();
        EXPECT_EQ(*twice > *guess, name == "mixtral") << "experts are counted for each copy";
      }
    }
  }
}

}  // namespace
}  // namespace trireme::worker
