// Goal: checkpoints of every quantised format mean what their descriptions say, on one rank and cut
// over two; and what is quantised on load keeps the rules that hold for all weights. Method: the
// tiny models of make_quantized.py, whose logits were computed from the numbers their codes mean.
#include <gtest/gtest.h>

#include <thread>

#include "tests/numerics/model_for_test.h"
#include "tests/numerics/thread_collective_for_test.h"

namespace trireme::worker {
namespace {

const std::filesystem::path kFolder = "tests/numerics/golden_quantized";
constexpr uint32_t kBlocks = 4;
// Of the largest logit: fp32, and a few activations whose int8 code lies on an edge.
constexpr float kTolerance = 2e-3F;
constexpr float kDecodedTolerance = 1e-5F;
// Two ranks round other parts of a row.
constexpr float kParallelTolerance = 5e-2F;

bool is_decoded(const std::string& name) {
  return name.find("fp8") != std::string::npos || name.find("8bit") != std::string::npos;
}

class Quantized : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto directory = ModelDirectory::open((kFolder / GetParam()).string());
    ASSERT_TRUE(directory.ok()) << directory.status();
    directory_ = std::make_unique<ModelDirectory>(std::move(directory).value());
    auto file = Safetensors::open_file((kFolder / GetParam() / "expected.safetensors").string());
    ASSERT_TRUE(file.ok()) << file.status();
    tokens_ = values_of<int32_t>(*file, "tokens");
    logits_ = values_of<float>(*file, "logits");
    largest_ = std::abs(
        *std::ranges::max_element(logits_, {}, [](float value) { return std::abs(value); }));
  }

  [[nodiscard]] std::unique_ptr<Model> load(const LoadOptions& options) {
    auto model = load_model(*directory_, WorkerPlace{}, options, solo_, pool_, {});
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return nullptr;
    EXPECT_TRUE((*model)->allocate_kv(kBlocks).ok());
    return std::move(model).value();
  }

  std::unique_ptr<ModelDirectory> directory_;
  SoloCollective solo_;
  ThreadPool pool_{2};
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  float largest_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, Quantized, testing::ValuesIn(golden_names(kFolder)),
                         [](const auto& test) { return test.param; });

TEST_P(Quantized, logits_are_those_of_the_numbers_that_the_codes_mean) {
  const auto model = load({.dtype = "float32"});
  ASSERT_NE(model, nullptr);
  const auto got = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  const float tolerance = is_decoded(GetParam()) ? kDecodedTolerance : kTolerance;
  EXPECT_LT(largest_difference(got, logits_), tolerance * largest_);
}

TEST_P(Quantized, bits_are_the_same_at_any_chunking_of_the_prompt) {
  const auto model = load({});
  ASSERT_NE(model, nullptr);
  const auto all = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  EXPECT_EQ(run_sequence(*model, tokens_, 1), all);
  EXPECT_EQ(run_sequence(*model, tokens_, 7), all);
}

TEST_P(Quantized, two_tensor_parallel_ranks_compute_what_one_does) {
  ThreadGroup group(2);
  std::vector<std::vector<float>> logits(2);
  std::vector<std::jthread> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      ThreadCollective collective(group, rank);
      ThreadPool pool(1);
      auto model = load_model(*directory_, {.tp_rank = rank, .tp_size = 2}, {.dtype = "float32"},
                              collective, pool, {});
      ASSERT_TRUE(model.ok()) << model.status();
      ASSERT_TRUE((*model)->allocate_kv(kBlocks).ok());
      logits[rank] = run_sequence(**model, tokens_, 7);
    });
  }
  ranks.clear();
  const float tolerance = is_decoded(GetParam()) ? kDecodedTolerance : kParallelTolerance;
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_LT(largest_difference(logits[0], logits_), tolerance * largest_);
}

TEST_P(Quantized, a_flag_that_is_not_the_checkpoint_s_method_is_refused_with_both) {
  for (const std::string wanted : {"int8", "int4", "awq", "gptq", "fp8", "compressed-tensors"}) {
    const std::string stored(name_of(directory_->config().quantization.method));
    const Status status =
        load_model(*directory_, WorkerPlace{}, {.quantization = wanted}, solo_, pool_, {}).status();
    EXPECT_EQ(status.ok(), wanted == stored) << status;
    const std::string message(status.message());
    if (wanted == stored) continue;
    EXPECT_NE(message.find("--quantization " + wanted), std::string::npos) << message;
    EXPECT_NE(message.find("quantised by " + stored), std::string::npos) << message;
  }
}

TEST(QuantizedOnLoad, logits_stay_near_and_bits_do_not_depend_on_chunks) {
  const ModelDirectory directory = open_golden("llama");
  SoloCollective solo;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8};
  const auto run = [&](const std::string& quantization, uint32_t chunk) {
    auto model =
        load_model(directory, WorkerPlace{}, {.quantization = quantization}, solo, pool, {});
    EXPECT_TRUE(model.ok()) << model.status();
    EXPECT_TRUE((*model)->allocate_kv(kBlocks).ok());
    return run_sequence(**model, tokens, chunk);
  };
  const auto exact = run("", 7);
  const float largest =
      std::abs(*std::ranges::max_element(exact, {}, [](float value) { return std::abs(value); }));
  for (const auto& [quantization, tolerance] : {std::pair{"int8", 0.045F}, {"int4", 0.6F}}) {
    const auto all = run(quantization, 19);
    EXPECT_LT(largest_difference(all, exact), tolerance * largest) << quantization;
    EXPECT_EQ(run(quantization, 1), all);
    EXPECT_EQ(run(quantization, 7), all);
  }
}

TEST(QuantizedOnLoad, methods_of_checkpoints_are_refused_where_nothing_is_quantised) {
  const ModelDirectory directory = open_golden("llama");
  SoloCollective solo;
  ThreadPool pool(1);
  const Status status =
      load_model(directory, WorkerPlace{}, {.quantization = "gptq"}, solo, pool, {}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("--quantization gptq"), std::string::npos);
}

// Columns of these small models are padded to whole blocks when they are packed: up to a half.
TEST(QuantizedOnLoad, bytes_to_load_are_about_what_is_loaded) {
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
