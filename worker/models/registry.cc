#include "worker/models/registry.h"

#include <array>

namespace trireme::worker {
namespace {

struct Entry {
  std::string_view architecture;
  ModelFactory factory;
};

constexpr std::array kEntries = {
    Entry{"LlamaForCausalLM", make_llama},     Entry{"MistralForCausalLM", make_mistral},
    Entry{"MixtralForCausalLM", make_mixtral}, Entry{"Qwen2ForCausalLM", make_qwen2},
    Entry{"Qwen3ForCausalLM", make_qwen3},
};

}  // namespace

StatusOr<ModelFactory> find_model_factory(std::string_view architecture) {
  std::string names;
  for (const Entry& entry : kEntries) {
    if (entry.architecture == architecture) return entry.factory;
    if (!names.empty()) names += ", ";
    names += entry.architecture;
  }
  return error(StatusCode::kInvalidArgument,
               "config.json: architecture \"%s\" is not supported; supported are %s", architecture,
               names);
}

}  // namespace trireme::worker
