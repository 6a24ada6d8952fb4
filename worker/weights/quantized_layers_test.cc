// Goal: which layers quantization_config says are quantised, in the words of each method.
#include "worker/weights/quantized_layers.h"

#include <gtest/gtest.h>

#include "worker/weights/model_config.h"

namespace trireme::worker {
namespace {

constexpr LayerStorage kQuantized = LayerStorage::kQuantized;
constexpr LayerStorage kPlain = LayerStorage::kPlain;
constexpr LayerStorage kNotSaid = LayerStorage::kNotSaid;

StatusOr<ModelConfig> parse(const std::string& quantization) {
  return parse_model_config(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":512,)"
      R"("hidden_size":64,"intermediate_size":128,"num_hidden_layers":4,"num_attention_heads":8,)"
      R"("max_position_embeddings":2048,"quantization_config":{)" +
          quantization + "}}",
      "config.json");
}

QuantizedLayers layers_of(const std::string& quantization) {
  const StatusOr<ModelConfig> config = parse(quantization);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->quantized_layers : QuantizedLayers();
}

std::string compressed(const std::string& targets, const std::string& ignore) {
  return R"("quant_method":"compressed-tensors","format":"int-quantized","ignore":)" + ignore +
         R"(,"config_groups":{"group_0":{"targets":)" + targets +
         R"(,"weights":{"num_bits":8,"strategy":"channel"}}})";
}

constexpr const char* kGptq = R"("quant_method":"gptq","bits":4)";
constexpr const char* kAwq = R"("quant_method":"awq","bits":4)";
constexpr const char* kFp8 = R"("quant_method":"fp8")";
constexpr const char* kUp = "model.layers.3.mlp.up_proj";
constexpr const char* kOutput = "model.layers.3.self_attn.o_proj";

TEST(QuantizedLayers, a_checkpoint_without_quantization_says_plain) {
  EXPECT_EQ(QuantizedLayers().storage_of(kUp), kPlain);
}

TEST(QuantizedLayers, gptq_and_awq_without_a_list_say_nothing) {
  for (const std::string method : {kGptq, kAwq}) {
    EXPECT_EQ(layers_of(method).storage_of(kUp), kNotSaid) << method;
  }
  EXPECT_EQ(layers_of(kAwq + std::string(R"(,"modules_to_not_convert":null)")).storage_of(kUp),
            kNotSaid);
}

TEST(QuantizedLayers, gptq_lists_parts_of_names_that_are_quantised) {
  for (const char* list : {R"(["mlp.up_proj"])", R"([["mlp.up_proj"],["mlp.gate_proj"]])"}) {
    const auto layers =
        layers_of(kGptq + std::string(R"(,"modules_in_block_to_quantize":)") + list);
    EXPECT_EQ(layers.storage_of(kUp), kQuantized) << list;
    EXPECT_EQ(layers.storage_of(kOutput), kPlain) << list;
  }
}

TEST(QuantizedLayers, awq_and_fp8_list_parts_of_names_that_are_not) {
  for (const std::string method : {kAwq, kFp8}) {
    const auto layers = layers_of(method + R"(,"modules_to_not_convert":["self_attn","lm_head"])");
    EXPECT_EQ(layers.storage_of(kUp), kQuantized) << method;
    EXPECT_EQ(layers.storage_of(kOutput), kPlain) << method;
  }
  const std::string ignored = kFp8 + std::string(R"(,"ignored_layers":[")") + kUp + R"("])";
  EXPECT_EQ(layers_of(ignored).storage_of(kUp), kPlain);
  EXPECT_EQ(layers_of(ignored).storage_of(kOutput), kQuantized);
  EXPECT_EQ(layers_of(kFp8).storage_of(kUp), kQuantized);
}

TEST(QuantizedLayers, compressed_tensors_targets_classes_names_and_expressions) {
  const std::string none = "[]";
  EXPECT_EQ(layers_of(compressed(R"(["Linear"])", none)).storage_of(kUp), kQuantized);
  const auto by_name = layers_of(compressed(std::string("[\"") + kUp + "\"]", none));
  EXPECT_EQ(by_name.storage_of(kUp), kQuantized);
  EXPECT_EQ(by_name.storage_of(kOutput), kPlain);
  const auto by_expression = layers_of(compressed(R"(["re:.*mlp\\.(up|down)_proj$"])", none));
  EXPECT_EQ(by_expression.storage_of(kUp), kQuantized);
  EXPECT_EQ(by_expression.storage_of(kOutput), kPlain);
  EXPECT_EQ(layers_of(compressed("null", none)).storage_of(kUp), kNotSaid);
}

TEST(QuantizedLayers, compressed_tensors_ignores_names_and_expressions) {
  const std::string linear = R"(["Linear"])";
  const auto by_name = layers_of(compressed(linear, std::string("[\"") + kUp + "\"]"));
  EXPECT_EQ(by_name.storage_of(kUp), kPlain);
  EXPECT_EQ(by_name.storage_of("model.layers.30.mlp.up_proj"), kQuantized);
  const auto by_expression = layers_of(compressed(linear, R"(["lm_head","re:.*self_attn"])"));
  EXPECT_EQ(by_expression.storage_of(kOutput), kPlain) << "the beginning is enough, as in Python";
  EXPECT_EQ(by_expression.storage_of(kUp), kQuantized);
  const auto from_the_middle = layers_of(compressed(linear, R"(["re:self_attn"])"));
  EXPECT_EQ(from_the_middle.storage_of(kOutput), kQuantized);
}

TEST(QuantizedLayers, an_expression_that_cannot_be_read_says_nothing) {
  // Python looks behind and ahead; RE2 does not.
  const std::string behind = R"(["re:.*(?<!self_attn)\\.o_proj"])";
  EXPECT_EQ(layers_of(compressed(R"(["Linear"])", behind)).storage_of(kUp), kNotSaid);
  EXPECT_EQ(layers_of(compressed(behind, "[]")).storage_of(kUp), kNotSaid);
}

TEST(QuantizedLayers, an_expression_that_backtracks_without_end_elsewhere_is_read) {
  const auto layers = layers_of(compressed(R"(["Linear"])", R"(["re:(a*)*(a*)*(a*)*b"])"));
  EXPECT_EQ(layers.storage_of(std::string(2000, 'a')), kQuantized);
  EXPECT_EQ(layers.storage_of(std::string(2000, 'a') + "b"), kPlain);
}

TEST(QuantizedLayers, a_large_expression_is_read_once_for_all_layers) {
  std::string large;
  for (int i = 0; i < 20'000; ++i) large += "a?";
  large += "b";
  const auto layers = layers_of(compressed(R"(["Linear"])", "[\"re:" + large + "\"]"));
  for (int layer = 0; layer < 1000; ++layer) {
    EXPECT_NE(layers.storage_of("model.layers." + std::to_string(layer)), kPlain);
  }
}

TEST(QuantizedLayers, lists_that_are_none_are_refused_by_field_and_value) {
  const auto refusal = [](const std::string& quantization) {
    return std::string(parse(quantization).status().message());
  };
  const std::string in = "config.json: quantization_config: ";
  EXPECT_EQ(refusal(kAwq + std::string(R"(,"modules_to_not_convert":"lm_head")")),
            in + R"(modules_to_not_convert is "lm_head", not a list of names)");
  EXPECT_EQ(refusal(kFp8 + std::string(R"(,"ignored_layers":{"lm_head":1})")),
            in + "ignored_layers is an object, not a list of names");
  EXPECT_EQ(refusal(kGptq + std::string(R"(,"modules_in_block_to_quantize":[[["a"]]])")),
            in + "modules_in_block_to_quantize is an array, not a list of names");
  EXPECT_EQ(refusal(compressed("7", "[]")),
            in + "config_groups: group_0: targets is 7, not a list of names");
  EXPECT_EQ(refusal(compressed(R"(["Linear"])", "[1]")),
            in + "ignore is an array, not a list of names");
}

}  // namespace
}  // namespace trireme::worker
