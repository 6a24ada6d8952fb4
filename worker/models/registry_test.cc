#include "worker/models/registry.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

TEST(Registry, a_supported_architecture_has_a_factory) {
  const auto factory = find_model_factory("LlamaForCausalLM");
  ASSERT_TRUE(factory.ok());
  EXPECT_EQ(*factory, make_llama);
}

TEST(Registry, an_unknown_architecture_is_refused_by_name_with_the_list) {
  const auto factory = find_model_factory("GPT5ForCausalLM");
  ASSERT_FALSE(factory.ok());
  EXPECT_EQ(std::string(factory.status().message()),
            "config.json: architecture \"GPT5ForCausalLM\" is not supported; supported are "
            "BertModel, DeepseekV2ForCausalLM, DeepseekV3ForCausalLM, FalconForCausalLM, "
            "GPT2LMHeadModel, GPTNeoXForCausalLM, Gemma2ForCausalLM, "
            "Gemma3ForCausalLM, Gemma3ForConditionalGeneration, GemmaForCausalLM, "
            "GraniteForCausalLM, LlamaForCausalLM, "
            "MistralForCausalLM, MixtralForCausalLM, Olmo2ForCausalLM, Phi3ForCausalLM, "
            "Qwen2ForCausalLM, Qwen2MoeForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM, "
            "SmolLM3ForCausalLM, StableLmForCausalLM");
}

}  // namespace
}  // namespace trireme::worker
