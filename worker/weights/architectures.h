// The architectures that can be served, by the names in config.json. Each has a factory in
// worker/models/registry.cc, which is checked against this list when it is compiled.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::worker {

// Sorted, as the error lists them.
inline constexpr std::array<std::string_view, 22> kArchitectures = {
    "BertModel",           "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM",
    "FalconForCausalLM",   "GPT2LMHeadModel",       "GPTNeoXForCausalLM",
    "Gemma2ForCausalLM",   "Gemma3ForCausalLM",     "Gemma3ForConditionalGeneration",
    "GemmaForCausalLM",    "GraniteForCausalLM",    "LlamaForCausalLM",
    "MistralForCausalLM",  "MixtralForCausalLM",    "Olmo2ForCausalLM",
    "Phi3ForCausalLM",     "Qwen2ForCausalLM",      "Qwen2MoeForCausalLM",
    "Qwen3ForCausalLM",    "Qwen3MoeForCausalLM",   "SmolLM3ForCausalLM",
    "StableLmForCausalLM",
};

// The list with commas, for messages.
[[nodiscard]] std::string architecture_names();

// kInvalidArgument with the list. `path`: of the config.json, for the message.
[[nodiscard]] Status check_architecture(std::string_view architecture, std::string_view path);

}  // namespace trireme::worker
