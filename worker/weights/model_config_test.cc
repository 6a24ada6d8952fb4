// config.json in the spellings of transformers 4 and 5; what does not fit together is refused by
// field and value.
#include "worker/weights/model_config.h"

#include <gtest/gtest.h>

#include "worker/weights/architectures.h"

namespace trireme::worker {
namespace {

std::string config_with(std::string_view more) {
  return absl::StrFormat(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":512,)"
      R"("hidden_size":64,"intermediate_size":128,"num_hidden_layers":4,"num_attention_heads":8,)"
      R"("max_position_embeddings":2048%s%s})",
      more.empty() ? "" : ",", more);
}

StatusOr<ModelConfig> parse(std::string_view more) {
  return parse_model_config(config_with(more), "config.json");
}

std::string refusal(std::string_view more) { return std::string(parse(more).status().message()); }

TEST(ModelConfig, defaults_are_those_of_transformers) {
  const StatusOr<ModelConfig> config = parse("");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->kv_head_count, 8u);
  EXPECT_EQ(config->head_dim, 8u);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_EQ(config->rope_scaling.type, "default");
  EXPECT_EQ(config->sliding_window, 0u);
  EXPECT_EQ(config->expert_count, 0u);
  EXPECT_FALSE(config->tie_word_embeddings.has_value());
}

TEST(ModelConfig, reads_rope_as_transformers_4_writes_it) {
  const StatusOr<ModelConfig> config = parse(
      R"("rope_theta":500000.0,"torch_dtype":"bfloat16","rope_scaling":{"factor":8.0,)"
      R"("low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,)"
      R"("rope_type":"llama3"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_theta, 500000);
  EXPECT_EQ(config->rope_scaling.type, "llama3");
  EXPECT_EQ(config->rope_scaling.factor, 8);
  EXPECT_EQ(config->rope_scaling.original_positions_max, 8192u);
  EXPECT_EQ(config->dtype, "bfloat16");
}

TEST(ModelConfig, reads_rope_as_transformers_5_writes_it) {
  const StatusOr<ModelConfig> config = parse(
      R"("dtype":"float32","rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4.0,)"
      R"("beta_fast":16,"attention_factor":0.5})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_theta, 1e6);
  EXPECT_EQ(config->rope_scaling.type, "yarn");
  EXPECT_EQ(config->rope_scaling.beta_fast, 16);
  EXPECT_EQ(config->rope_scaling.attention_factor, 0.5);
  EXPECT_EQ(config->dtype, "float32");
}

TEST(ModelConfig, old_linear_scaling_is_read_by_its_old_name) {
  const StatusOr<ModelConfig> config = parse(R"("rope_scaling":{"type":"linear","factor":2.0})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_scaling.type, "linear");
  EXPECT_EQ(config->rope_scaling.factor, 2);
}

TEST(ModelConfig, null_counts_as_absent) {
  const StatusOr<ModelConfig> config =
      parse(R"("rope_scaling":null,"sliding_window":null,"head_dim":null)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 8u);
  EXPECT_EQ(config->window_of_layer(0), 0u);
}

TEST(ModelConfig, mistral_window_is_on_every_layer) {
  const StatusOr<ModelConfig> config = parse(R"("sliding_window":4096)");
  ASSERT_TRUE(config.ok()) << config.status();
  for (uint32_t layer = 0; layer < 4; ++layer) EXPECT_EQ(config->window_of_layer(layer), 4096u);
}

TEST(ModelConfig, unused_window_is_none) {
  const StatusOr<ModelConfig> config =
      parse(R"("use_sliding_window":false,"sliding_window":4096,"max_window_layers":2)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->sliding_window, 0u);
  EXPECT_EQ(config->window_of_layer(3), 0u);
}

TEST(ModelConfig, qwen_window_begins_after_its_full_layers) {
  const StatusOr<ModelConfig> config =
      parse(R"("use_sliding_window":true,"sliding_window":64,"max_window_layers":2)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->window_of_layer(1), 0u);
  EXPECT_EQ(config->window_of_layer(2), 64u);
}

StatusOr<ModelConfig> parse_as(std::string_view model_type, std::string_view more) {
  std::string text = config_with(more);
  constexpr std::string_view kLlama = R"("model_type":"llama")";
  text.replace(text.find(kLlama), kLlama.size(),
               absl::StrFormat(R"("model_type":"%s")", model_type));
  return parse_model_config(text, "config.json");
}

TEST(ModelConfig, qwen_has_no_window_unless_it_says_so) {
  for (const char* type : {"qwen2", "qwen3", "smollm3"}) {
    EXPECT_EQ(parse_as(type, R"("sliding_window":64)")->sliding_window, 0u) << type;
  }
  const StatusOr<ModelConfig> used =
      parse_as("qwen2", R"("use_sliding_window":true,"sliding_window":64)");
  EXPECT_EQ(used->layer_is_sliding, std::vector<uint8_t>(4, 0)) << "28 layers come first";
  EXPECT_EQ(parse_as("qwen3", R"("use_sliding_window":true)")->sliding_window, 4096u);
}

TEST(ModelConfig, a_window_that_is_left_out_is_assumed_and_null_is_none) {
  for (const char* type : {"mistral", "gemma2", "gemma3_text"}) {
    EXPECT_EQ(parse_as(type, "")->sliding_window, 4096u) << type;
    EXPECT_EQ(parse_as(type, R"("sliding_window":null)")->sliding_window, 0u) << type;
  }
  EXPECT_EQ(parse_as("mixtral", "")->sliding_window, 0u);
}

TEST(ModelConfig, each_type_assumes_what_transformers_does) {
  const StatusOr<ModelConfig> mixtral = parse_as("mixtral", "");
  ASSERT_TRUE(mixtral.ok()) << mixtral.status();
  EXPECT_EQ(mixtral->rope_theta, 1e6);
  EXPECT_EQ(mixtral->norm_eps, 1e-5F);
  EXPECT_EQ(mixtral->expert_count, 8u);
  EXPECT_EQ(mixtral->experts_per_token, 2u);
  EXPECT_EQ(parse_as("smollm3", "")->rope_theta, 2e6);
  EXPECT_EQ(parse_as("olmo2", "")->norm_eps, 1e-5F);
}

TEST(ModelConfig, part_of_a_head_turns_where_transformers_turns_a_part) {
  constexpr std::string_view kHalf =
      R"("rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5})";
  EXPECT_FALSE(parse(kHalf)->partial_rotary_factor.has_value());
  EXPECT_EQ(parse_as("phi3", kHalf)->partial_rotary_factor, 0.5);
}

TEST(ModelConfig, layer_types_decide_the_window) {
  const StatusOr<ModelConfig> config =
      parse(R"("sliding_window":64,"layer_types":["full_attention","sliding_attention",)"
            R"("full_attention","sliding_attention"])");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->window_of_layer(0), 0u);
  EXPECT_EQ(config->window_of_layer(1), 64u);
  EXPECT_NE(refusal(R"("sliding_window":64,"layer_types":["full_attention"])").find("layer_types"),
            std::string::npos);
}

TEST(ModelConfig, layers_with_a_window_may_turn_by_a_theta_of_their_own) {
  for (
      const std::string_view written :
      {R"("rope_theta":1e6,"rope_local_base_freq":1e4,"rope_scaling":{"type":"linear","factor":8})",
       R"("rope_parameters":{"sliding_attention":{"rope_theta":1e4},)"
       R"("full_attention":{"rope_type":"linear","factor":8,"rope_theta":1e6}})"}) {
    const StatusOr<ModelConfig> config = parse(written);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope_theta, 1e6);
    EXPECT_EQ(config->rope_scaling.factor, 8);
    EXPECT_EQ(config->local_rope_theta, 1e4);
  }
}

TEST(ModelConfig, reads_the_sizes_as_gpt2_spells_them) {
  const StatusOr<ModelConfig> config = parse_model_config(
      R"({"architectures":["GPT2LMHeadModel"],"model_type":"gpt2","vocab_size":50257,"n_embd":768,)"
      R"("n_layer":12,"n_head":12,"n_positions":1024,"layer_norm_epsilon":1e-3,)"
      R"("activation_function":"gelu","n_inner":null})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 768u);
  EXPECT_EQ(config->intermediate_size, 3072u);
  EXPECT_EQ(config->layer_count, 12u);
  EXPECT_EQ(config->head_dim, 64u);
  EXPECT_EQ(config->positions_max, 1024u);
  EXPECT_EQ(config->norm_eps, 1e-3F);
  EXPECT_EQ(config->hidden_act, "gelu");
}

TEST(ModelConfig, falcon_leaves_out_what_transformers_assumes) {
  const StatusOr<ModelConfig> config = parse_model_config(
      R"({"architectures":["FalconForCausalLM"],"model_type":"falcon","vocab_size":65024,)"
      R"("hidden_size":4544,"num_hidden_layers":32,"num_attention_heads":71})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->intermediate_size, 4u * 4544);
  EXPECT_EQ(config->positions_max, 2048u);
  EXPECT_EQ(config->hidden_act, "gelu");
  EXPECT_EQ(config->norm_eps, 1e-5F);
}

TEST(ModelConfig, a_multimodal_model_has_the_sizes_of_its_language_model) {
  const StatusOr<ModelConfig> config = parse_model_config(
      R"({"architectures":["Gemma3ForConditionalGeneration"],"model_type":"gemma3",)"
      R"("text_config":{"model_type":"gemma3_text","hidden_size":2560,"intermediate_size":10240,)"
      R"("num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"},)"
      R"("sliding_window":1024},"vision_config":{"hidden_size":1152}})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "Gemma3ForConditionalGeneration");
  EXPECT_EQ(config->hidden_size, 2560u);
  EXPECT_EQ(config->kv_head_count, 4u);
  EXPECT_EQ(config->head_dim, 256u);
  EXPECT_EQ(config->rope_theta, 1e6);
  EXPECT_EQ(config->rope_scaling.factor, 8);
}

TEST(ModelConfig, fields_of_one_architecture_are_read_by_name_with_the_same_errors) {
  const StatusOr<ModelConfig> config =
      parse(R"("logits_scaling":8,"no_rope_layers":[1,0],"parallel_attn":"yes")");
  ASSERT_TRUE(config.ok()) << config.status();
  ConfigFields fields = config->fields();
  float scaling = 1;
  fields.read("logits_scaling", scaling);
  EXPECT_EQ(scaling, 8);
  std::vector<uint32_t> layers;
  fields.read("no_rope_layers", layers);
  EXPECT_EQ(layers, (std::vector<uint32_t>{1, 0}));
  EXPECT_TRUE(fields.status().ok());
  bool is_parallel = false;
  fields.read("parallel_attn", is_parallel);
  EXPECT_EQ(std::string(fields.status().message()),
            "config.json: parallel_attn is \"yes\", not true or false");
}

TEST(ModelConfig, reads_experts) {
  const StatusOr<ModelConfig> config = parse(R"("num_local_experts":8,"num_experts_per_tok":2)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->expert_count, 8u);
  EXPECT_EQ(config->experts_per_token, 2u);
  EXPECT_EQ(config->expert_intermediate_size, 128u);
  EXPECT_EQ(refusal(R"("num_local_experts":8,"num_experts_per_tok":9)"),
            "config.json: num_experts_per_tok is 9 with 8 experts");
}

TEST(ModelConfig, reads_what_every_token_goes_through_beside_the_experts) {
  const std::string experts = R"("n_routed_experts":8,"num_experts_per_tok":2,)";
  const auto deepseek = parse(experts + R"("moe_intermediate_size":48,"n_shared_experts":2)");
  ASSERT_TRUE(deepseek.ok()) << deepseek.status();
  EXPECT_EQ(deepseek->expert_count, 8U);
  EXPECT_EQ(deepseek->shared_expert_size, 96U);
  const auto qwen = parse(experts + R"("shared_expert_intermediate_size":160)");
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_EQ(qwen->shared_expert_size, 160U);
}

TEST(ModelConfig, reads_the_sizes_of_latent_attention) {
  const std::string all = R"("model_type":"deepseek_v3","q_lora_rank":null,"kv_lora_rank":512,)"
                          R"("qk_nope_head_dim":128,"qk_rope_head_dim":64)";
  const auto config = parse(all + R"(,"v_head_dim":96)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->latent->q_rank, 0U);
  EXPECT_EQ(config->latent->kv_rank, 512U);
  EXPECT_EQ(config->latent->plain_size, 128U);
  EXPECT_EQ(config->latent->rope_size, 64U);
  EXPECT_EQ(config->latent->value_size, 96U);
  EXPECT_EQ(refusal(all), "config.json: v_head_dim is missing");
  EXPECT_FALSE(parse("").value().latent.has_value());
}

TEST(ModelConfig, windows_of_qwen_mixtures_are_in_other_layers_than_those_of_qwen) {
  const auto windows = [](const std::string& type) {
    const auto config =
        parse(R"("model_type":")" + type +
              R"(","num_hidden_layers":4,"sliding_window":9,"max_window_layers":3)" +
              R"(,"use_sliding_window":true)");
    EXPECT_TRUE(config.ok()) << config.status();
    return config->layer_is_sliding;
  };
  EXPECT_EQ(windows("qwen2"), (std::vector<uint8_t>{0, 0, 0, 1}));
  EXPECT_EQ(windows("qwen2_moe"), (std::vector<uint8_t>{1, 0, 1, 0}));
  EXPECT_EQ(windows("qwen3_moe"), (std::vector<uint8_t>{1, 1, 1, 1}));
}

TEST(ModelConfig, quantization_is_read_in_the_words_of_each_method) {
  const auto of = [](const std::string& text) {
    const auto config = parse(R"("quantization_config":)" + text);
    EXPECT_TRUE(config.ok()) << config.status();
    return config->quantization;
  };
  EXPECT_EQ(of("null").method, QuantizationMethod::kNone);
  const auto gptq = of(R"({"quant_method":"gptq","bits":4,"group_size":128})");
  EXPECT_EQ(gptq.method, QuantizationMethod::kGptq);
  EXPECT_EQ(gptq.group_columns, 128U);
  EXPECT_TRUE(gptq.zeros_lack_one);
  EXPECT_FALSE(gptq.has_group_index);
  EXPECT_TRUE(of(R"({"quant_method":"gptq","bits":4,"desc_act":true})").has_group_index);
  EXPECT_EQ(of(R"({"quant_method":"gptq","bits":4,"dynamic":{}})").bits, 4U);
  EXPECT_EQ(of(R"({"quant_method":"awq","w_bit":4,"q_group_size":64})").group_columns, 64U);
  const auto awq = of(R"({"quant_method":"awq","bits":4,"group_size":-1,"version":"gemm"})");
  EXPECT_EQ(awq.method, QuantizationMethod::kAwq);
  EXPECT_EQ(awq.group_columns, 0U);
  const auto fp8 = of(R"({"quant_method":"fp8","weight_block_size":[128,64]})");
  EXPECT_EQ(fp8.block_rows, 128U);
  EXPECT_EQ(fp8.block_columns, 64U);
  const auto w4a16 = of(
      R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":)"
      R"({"group_0":{"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":32}}}})");
  EXPECT_EQ(w4a16.method, QuantizationMethod::kCompressedTensors);
  EXPECT_TRUE(w4a16.is_packed);
  EXPECT_EQ(w4a16.group_columns, 32U);
  EXPECT_TRUE(w4a16.is_symmetric);
  const auto scheme = [&](const std::string& more) {
    return of(R"({"quant_method":"compressed-tensors","format":"pack-quantized",)"
              R"("transform_config":{},"config_groups":{"group_0":{"weights":{"num_bits":4,)" +
              more + "}}}}");
  };
  EXPECT_FALSE(scheme(R"("symmetric":false)").is_symmetric);
  for (const char* order : {"\"group\"", "\"dynamic\"", "true"}) {
    EXPECT_TRUE(scheme(std::string(R"("actorder":)") + order).has_group_index) << order;
  }
  for (const char* order : {"\"weight\"", "\"static\"", "false", "null"}) {
    EXPECT_FALSE(scheme(std::string(R"("actorder":)") + order).has_group_index) << order;
  }
}

TEST(ModelConfig, quantization_that_cannot_run_is_refused_by_field_and_value) {
  const std::string at = R"("quantization_config":)";
  const std::string in = "config.json: quantization_config: ";
  EXPECT_EQ(refusal(at + R"({"quant_method":"bitsandbytes"})"),
            in + "quant_method \"bitsandbytes\" is not supported; supported are fp8, gptq, awq, "
                 "compressed-tensors");
  EXPECT_EQ(refusal(at + R"({"quant_method":"gptq","bits":3})"),
            in + "bits 3 is not supported; supported are 4 and 8");
  EXPECT_EQ(refusal(at + R"({"quant_method":"gptq","bits":4,"group_size":7})"),
            in + "group_size is 7, not -1 or a count in [8, 1.04858e+06]");
  EXPECT_EQ(refusal(at + R"({"quant_method":"awq","bits":4,"version":"gemv"})"),
            in + "version gemv is not supported; supported are gemm");
  EXPECT_EQ(refusal(at + R"({"quant_method":"compressed-tensors","format":"marlin-24"})"),
            in + "format \"marlin-24\" is not supported; supported are int-quantized, "
                 "pack-quantized, float-quantized, naive-quantized");
  EXPECT_EQ(refusal(at + R"({"quant_method":"gptq","bits":4,"dynamic":{"-:.*mlp.*":{}}})"),
            in + R"(dynamic {"-:.*mlp.*":{}} is not supported; supported are none)");
  EXPECT_EQ(refusal(at + R"({"quant_method":"compressed-tensors","format":"pack-quantized",)"
                         R"("transform_config":{"config_groups":{"R1":{}}}})"),
            in + R"(transform_config {"config_groups":{"R1":{}}} is not supported; supported are )"
                 "none");
  EXPECT_EQ(refusal(at + R"({"quant_method":"awq","bits":8})"),
            in + "bits 8 is not supported; supported are 4");
  EXPECT_EQ(refusal(at + R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})"),
            in + "checkpoint_format marlin is not supported; supported are gptq and gptq_v2");
  EXPECT_EQ(refusal(at + R"({"quant_method":"fp8","fmt":"e5m2"})"),
            in + "fmt e5m2 is not supported; supported are e4m3");
  EXPECT_EQ(refusal(at + R"({"quant_method":"fp8","weight_block_size":[128]})"),
            in + "weight_block_size of 1 numbers is not supported; supported are two, each above "
                 "0");
  EXPECT_EQ(refusal(at + "[]"), "config.json: quantization_config is not an object");
}

TEST(ModelConfig, quantization_under_its_older_name_is_read) {
  const std::string groups = R"("config_groups":{"g":{"weights":{"num_bits":8}}})";
  const auto config = parse(R"("compression_config":{"quant_method":"compressed-tensors",)"
                            R"("format":"int-quantized",)" +
                            groups + "}");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->quantization.method, QuantizationMethod::kCompressedTensors);
  EXPECT_EQ(config->quantization.bits, 8U);
  EXPECT_STREQ(config->quantization.key, "compression_config") << "messages say it";
  EXPECT_EQ(refusal(R"("compression_config":[])"),
            "config.json: compression_config is not an object");
}

TEST(ModelConfig, schemes_of_compressed_tensors_that_cannot_run_are_refused_by_what_they_are) {
  const auto groups = [](const std::string& text) {
    const std::string message =
        refusal(R"("quantization_config":{"quant_method":"compressed-tensors",)"
                R"("format":"pack-quantized","config_groups":{)" +
                text + "}}");
    const std::string in = "config.json: quantization_config: ";
    EXPECT_EQ(message.find(in), 0U) << message;
    return message.substr(in.size());
  };
  const auto weights = [&](const std::string& text) {
    const std::string message = groups(R"("g":{"weights":{)" + text + "}}");
    const std::string in = "config_groups: g: weights: ";
    EXPECT_EQ(message.find(in), 0U) << message;
    return message.substr(in.size());
  };
  const std::string supported =
      " is not supported; supported are float of 8 bits, int of 8 bits (symmetric, strategy "
      "channel), int of 4 bits (pack-quantized)";
  EXPECT_EQ(weights(R"("num_bits":4,"strategy":"tensor")"),
            "scheme weights of type int with 4 bits, strategy tensor" + supported);
  EXPECT_EQ(weights(R"("num_bits":8,"symmetric":false)"),
            "scheme weights of type int with 8 bits, strategy channel, asymmetric" + supported);
  EXPECT_EQ(weights(R"("num_bits":4,"type":"float")"),
            "scheme weights of type float with 4 bits, strategy channel" + supported);
  EXPECT_EQ(weights(R"("num_bits":4,"strategy":"group","group_size":4)"),
            "group_size is 4, not -1 or a count in [8, 1.04858e+06]");
  EXPECT_EQ(weights(R"("num_bits":4,"actorder":"sideways")"),
            "actorder sideways is not supported; supported are group, weight, dynamic, static");
  EXPECT_EQ(groups(""),
            "config_groups without a group is not supported; supported are one or more");
  EXPECT_EQ(groups(R"("a":{"weights":{"num_bits":4}},"b":{"weights":{"num_bits":8}})"),
            "config_groups with different weights is not supported; supported are those that "
            "agree");
}

TEST(ModelConfig, wrong_values_are_refused_by_field_and_value) {
  EXPECT_EQ(refusal(R"("num_key_value_heads":3)"),
            "config.json: num_attention_heads 8 is no multiple of num_key_value_heads 3");
  EXPECT_EQ(refusal(R"("head_dim":"x")"),
            "config.json: head_dim is \"x\", not a count in [1, 1073741824]");
  EXPECT_EQ(refusal(R"("head_dim":7)"), "config.json: head_dim 7 is not even and above 0");
  EXPECT_EQ(refusal(R"("num_key_value_heads":-1)"),
            "config.json: num_key_value_heads is -1, not a count in [1, 1073741824]");
  EXPECT_EQ(refusal(R"("tie_word_embeddings":1)"),
            "config.json: tie_word_embeddings is 1, not true or false");
  EXPECT_EQ(refusal(R"("rope_scaling":{"factor":0})"),
            "config.json: rope_scaling: factor is 0, not above 0");
  EXPECT_EQ(refusal(R"("rope_local_base_freq":0)"), "config.json: rope_theta is 0, not above 0");
  EXPECT_EQ(refusal(R"("partial_rotary_factor":1.5)"),
            "config.json: partial_rotary_factor is 1.5, not in (0, 1]");
  EXPECT_EQ(refusal(R"("rope_scaling":[])"), "config.json: rope_scaling is not an object");
  EXPECT_EQ(refusal(R"("rope_parameters":{"linear_attention":{}})"),
            "config.json: rope_parameters: layer type \"linear_attention\" is not supported; "
            "supported are full_attention and sliding_attention");
  EXPECT_EQ(refusal(R"("rope_parameters":{"sliding_attention":{"rope_type":"yarn"}})"),
            "config.json: rope_parameters: sliding_attention: rope_type \"yarn\" is not supported "
            "for layers with a sliding window");
}

TEST(ModelConfig, both_spellings_of_rope_must_say_the_same) {
  const auto same =
      parse(R"("rope_theta":1e6,"rope_scaling":{"type":"linear","factor":2},)"
            R"("rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":1e6})");
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->rope_scaling.factor, 2);
  const std::string newer = R"("rope_parameters":{"rope_type":"default"})";
  EXPECT_TRUE(parse(R"("rope_scaling":{},)" + newer).ok());
  EXPECT_TRUE(parse(R"("rope_scaling":null,)" + newer).ok());
  EXPECT_EQ(refusal(R"("rope_scaling":{"type":"mystery"},)" + newer),
            "config.json: rope_scaling {\"type\":\"mystery\"} and rope_parameters "
            "{\"rope_type\":\"default\"} differ; leave one of them");
  EXPECT_EQ(refusal(R"("rope_scaling":{"rope_theta":5},"rope_parameters":{"rope_theta":6})"),
            "config.json: rope_scaling {\"rope_theta\":5} and rope_parameters "
            "{\"rope_theta\":6} differ; leave one of them");
}

TEST(ModelConfig, unknown_architecture_is_named_before_any_field_that_is_missing) {
  const auto config = parse_model_config(R"({"architectures":["X"],"nested":{}})", "c");
  const std::string message(config.status().message());
  EXPECT_EQ(message.find("c: architecture \"X\" is not supported; supported are BertModel"), 0u)
      << message;
}

TEST(ModelConfig, missing_field_is_named) {
  const std::string llama = R"({"architectures":["LlamaForCausalLM"]})";
  EXPECT_EQ(std::string(parse_model_config(llama, "c").status().message()),
            "c: vocab_size is missing (architecture \"LlamaForCausalLM\")");
  EXPECT_EQ(std::string(parse_model_config("{}", "c").status().message()),
            "c: architectures is missing, but must be a list with one of " + architecture_names());
  for (const std::string given : {"[]", "\"LlamaForCausalLM\"", "[1]"}) {
    const auto config = parse_model_config(R"({"architectures":)" + given + "}", "c");
    EXPECT_EQ(std::string(config.status().message()), "c: architectures is " + given +
                                                          ", but must be a list with one of " +
                                                          architecture_names());
  }
  EXPECT_EQ(std::string(parse_model_config("[1", "c").status().message()),
            "c is not a JSON object");
}

}  // namespace
}  // namespace trireme::worker
