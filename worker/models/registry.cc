#include "worker/models/registry.h"

#include <algorithm>
#include <array>

#include "worker/weights/architectures.h"

namespace trireme::worker {
namespace {

struct Entry {
  std::string_view architecture;
  ModelFactory factory;
};

// In the order of kArchitectures.
constexpr std::array kEntries = {
    Entry{"BertModel", make_bert},
    Entry{"DeepseekV2ForCausalLM", make_deepseek_v2},
    Entry{"DeepseekV3ForCausalLM", make_deepseek_v3},
    Entry{"FalconForCausalLM", make_falcon},
    Entry{"GPT2LMHeadModel", make_gpt2},
    Entry{"GPTNeoXForCausalLM", make_gpt_neox},
    Entry{"Gemma2ForCausalLM", make_gemma2},
    Entry{"Gemma3ForCausalLM", make_gemma3},
    Entry{"Gemma3ForConditionalGeneration", make_gemma3},
    Entry{"GemmaForCausalLM", make_gemma},
    Entry{"GraniteForCausalLM", make_granite},
    Entry{"LlamaForCausalLM", make_llama},
    Entry{"MistralForCausalLM", make_mistral},
    Entry{"MixtralForCausalLM", make_mixtral},
    Entry{"Olmo2ForCausalLM", make_olmo2},
    Entry{"Phi3ForCausalLM", make_phi3},
    Entry{"Qwen2ForCausalLM", make_qwen2},
    Entry{"Qwen2MoeForCausalLM", make_qwen2_moe},
    Entry{"Qwen3ForCausalLM", make_qwen3},
    Entry{"Qwen3MoeForCausalLM", make_qwen3_moe},
    Entry{"SmolLM3ForCausalLM", make_smollm3},
    Entry{"StableLmForCausalLM", make_stablelm},
};
static_assert(std::ranges::equal(kEntries, kArchitectures, {}, &Entry::architecture));

}  // namespace

StatusOr<ModelFactory> find_model_factory(std::string_view architecture) {
  for (const Entry& entry : kEntries) {
    if (entry.architecture == architecture) return entry.factory;
  }
  return check_architecture(architecture, "config.json");
}

}  // namespace trireme::worker
