// Goal: what only DeepSeek has: the size of its latent cache, fields that are refused, and
// checkpoints in fp8 by blocks. Method: the golden models with other words in config.json, and with
// weights that fp8 and bf16 both hold exactly, whose bits must be equal.
#include <gtest/gtest.h>

#include "tests/numerics/model_for_test.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kBlocks = 4;
const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8};

std::string config_of(const std::string& name) {
  std::ifstream file(kGoldenFolder / name / "config.json");
  return {std::istreambuf_iterator<char>(file), {}};
}

// With some more fields in front, where they win over those that config.json has already.
std::string refusal(const std::string& name, const std::string& field, const std::string& value) {
  const TestDirectory written;
  std::string config = config_of(name);
  const std::string key = "\"" + field + "\":";
  if (const std::size_t at = config.find(key); at != std::string::npos) {
    config.replace(at, config.find_first_of(",\n", at) - at, key + value);
  } else {
    config.replace(0, 1, "{" + key + value + ",");
  }
  written.write("config.json", config);
  write_generated_weights((kGoldenFolder / name / "weights.txt").string(), written);
  const auto directory = ModelDirectory::open(written.path());
  EXPECT_TRUE(directory.ok()) << directory.status();
  SoloCollective solo;
  ThreadPool pool(1);
  const auto model = load_model(*directory, {}, {}, solo, pool, {});
  EXPECT_FALSE(model.ok()) << field << " " << value;
  const std::string message(model.status().message());
  const std::size_t begin = message.find("config.json");
  return begin == std::string::npos ? message : message.substr(begin);
}

TEST(DeepSeek, a_block_keeps_the_latent_and_the_rotary_key_of_each_token_on_every_rank) {
  const SoloModel model("deepseek_v3", "bfloat16", kBlocks);
  EXPECT_EQ(model->kv_shape().block_bytes, 2U * 16 * (32 + 16) * 2);
  const ModelDirectory directory = open_golden("deepseek_v3");
  SoloCollective solo;
  ThreadPool pool(1);
  const auto half = load_model(directory, {.tp_rank = 1, .tp_size = 2}, {}, solo, pool, {});
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ((*half)->kv_shape().block_bytes, model->kv_shape().block_bytes);
}

TEST(DeepSeek, ways_to_choose_experts_that_it_does_not_have_are_refused_by_the_field) {
  EXPECT_EQ(refusal("deepseek_v2", "topk_method", "\"noaux_tc\""),
            "config.json: topk_method \"noaux_tc\" is not supported for DeepseekV2ForCausalLM; "
            "supported are greedy, group_limited_greedy");
  EXPECT_EQ(refusal("deepseek_v2", "scoring_func", "\"sigmoid\""),
            "config.json: scoring_func \"sigmoid\" is not supported for DeepseekV2ForCausalLM; "
            "supported are softmax");
  EXPECT_EQ(refusal("deepseek_v2", "norm_topk_prob", "true"),
            "config.json: norm_topk_prob is not supported for DeepseekV2ForCausalLM");
  EXPECT_EQ(refusal("deepseek_v3", "topk_method", "\"greedy\""),
            "config.json: topk_method \"greedy\" is not supported for DeepseekV3ForCausalLM; "
            "supported are noaux_tc");
  EXPECT_EQ(refusal("deepseek_v3", "scoring_func", "\"softmax\""),
            "config.json: scoring_func \"softmax\" is not supported for DeepseekV3ForCausalLM; "
            "supported are sigmoid");
}

TEST(DeepSeek, numbers_that_do_not_fit_together_are_refused) {
  EXPECT_EQ(refusal("deepseek_v3", "n_group", "3"), "config.json: 8 experts do not make n_group 3");
  EXPECT_EQ(refusal("deepseek_v3", "topk_group", "1"),
            "config.json: num_experts_per_tok 3 of topk_group 1 groups of 2 experts, n_group is 4");
  EXPECT_EQ(refusal("deepseek_v3", "attention_bias", "true"),
            "config.json: attention_bias is not supported for DeepseekV3ForCausalLM");
  EXPECT_EQ(refusal("deepseek_v3", "model_type", "\"llama\""),
            "config.json: model_type \"llama\" is not that of DeepseekV3ForCausalLM");
}

// Codes of e4m3 between 1/4 and 2, and scales of blocks that are powers of two.
class Fp8Writer {
 public:
  void add(const GeneratedTensor& tensor, bool is_coded) {
    const bool is_linear = tensor.name.find("_proj") != std::string::npos;
    if (!is_linear) {
      const std::size_t begin = data_.size();
      GeneratedTensor(tensor).append_values(data_);
      return describe(tensor.name, "BF16", tensor.dimensions, begin);
    }
    const auto rows = static_cast<uint32_t>(std::stoul(tensor.dimensions));
    const auto columns = static_cast<uint32_t>(tensor.count / rows);
    const auto scale = [](uint32_t row, uint32_t column) {
      return (row / kBlock + column / kBlock) % 2 == 0 ? 0.25F : 0.125F;
    };
    std::size_t begin = data_.size();
    for (uint32_t i = 0; i < tensor.count; ++i) {
      const auto random = static_cast<uint32_t>(mixed(hash_of(tensor.name) + i));
      const uint32_t exponent = 5 + random / 16 % 3;
      const uint32_t mantissa = random % 8;
      const bool is_negative = random / 8 % 2 != 0;
      if (is_coded) {
        data_ += static_cast<char>((is_negative ? 0x80U : 0U) | exponent << 3 | mantissa);
        continue;
      }
      const float value =
          std::ldexp(8.0F + static_cast<float>(mantissa), static_cast<int>(exponent) - 10) *
          scale(i / columns, i % columns) * (is_negative ? -1.0F : 1.0F);
      append(bfloat16_of(value));
    }
    describe(tensor.name, is_coded ? "F8_E4M3" : "BF16", tensor.dimensions, begin);
    if (!is_coded) return;
    begin = data_.size();
    for (uint32_t row = 0; row < rows; row += kBlock) {
      for (uint32_t column = 0; column < columns; column += kBlock) append(scale(row, column));
    }
    describe(
        tensor.name + "_scale_inv", "F32",
        absl::StrFormat("%d,%d", (rows + kBlock - 1) / kBlock, (columns + kBlock - 1) / kBlock),
        begin);
  }
  [[nodiscard]] std::string text() const { return safetensors_bytes("{" + header_ + "}", data_); }

  static constexpr uint32_t kBlock = 20;  // Divides nothing.

 private:
  template <typename Value>
  void append(Value value) {
    data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void describe(const std::string& name, const char* dtype, const std::string& shape,
                std::size_t begin) {
    absl::StrAppendFormat(&header_, R"(%s"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})",
                          header_.empty() ? "" : ",", name, dtype, shape, begin, data_.size());
  }

  std::string header_;
  std::string data_;
};

std::vector<float> logits_of(const std::string& name, bool is_coded) {
  const TestDirectory written;
  Fp8Writer weights;
  std::ifstream lines(kGoldenFolder / name / "weights.txt");
  for (std::string line; std::getline(lines, line);) {
    weights.add(GeneratedTensor::parse(line), is_coded);
  }
  written.write("model.safetensors", weights.text());
  std::string config = config_of(name);
  if (is_coded) {
    config.replace(0, 1,
                   absl::StrFormat(R"({"quantization_config":{"quant_method":"fp8",)"
                                   R"("activation_scheme":"dynamic",)"
                                   R"("weight_block_size":[%d,%d]},)",
                                   Fp8Writer::kBlock, Fp8Writer::kBlock));
  }
  written.write("config.json", config);
  const auto directory = ModelDirectory::open(written.path());
  EXPECT_TRUE(directory.ok()) << directory.status();
  SoloCollective solo;
  ThreadPool pool(2);
  auto model = load_model(*directory, {}, {.dtype = "bfloat16"}, solo, pool, {});
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->allocate_kv(kBlocks).ok());
  return run_sequence(**model, kTokens, 7);
}

TEST(DeepSeek, fp8_by_blocks_is_computed_as_the_same_numbers_in_bf16) {
  for (const std::string name : {"deepseek_v2", "deepseek_v3", "deepseek_v3_plain"}) {
    EXPECT_EQ(logits_of(name, true), logits_of(name, false)) << name;
  }
}

TEST(DeepSeek, quantised_on_load_bits_do_not_depend_on_chunks) {
  const ModelDirectory directory = open_golden("deepseek_v3");
  SoloCollective solo;
  ThreadPool pool(2);
  for (const std::string quantization : {"int8", "int4"}) {
    auto model = load_model(directory, {}, {.quantization = quantization}, solo, pool, {});
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_TRUE((*model)->allocate_kv(kBlocks).ok());
    const auto whole = run_sequence(**model, kTokens, 19);
    EXPECT_TRUE(std::ranges::all_of(whole, [](float logit) { return std::isfinite(logit); }));
    EXPECT_EQ(run_sequence(**model, kTokens, 1), whole) << quantization;
    EXPECT_EQ(run_sequence(**model, kTokens, 7), whole) << quantization;
  }
}

}  // namespace
}  // namespace trireme::worker
