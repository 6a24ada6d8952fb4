// The architectures that can run: the name in config.json (`architectures[0]`) to what builds it.
// Adding one: a file with its factory, a line in the table, a row in tests/numerics.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "worker/comm/expert_placement.h"
#include "worker/device.h"
#include "worker/models/model.h"
#include "worker/sign_of_life.h"
#include "worker/weights/model_directory.h"
#include "worker/worker.h"

namespace trireme::worker {

// What a factory builds from. The directory outlives the model.
struct ModelSource {
  const ModelDirectory& directory;
  const WorkerPlace& place;
  Element element;     // What matrices are computed in.
  Element kv_element;  // Of K and V.
  uint32_t block_tokens;
  std::unique_ptr<Device> device;
  const Progress& progress;
  LifeSigns life;
  bool wants_logits = true;        // False: hidden states only, the head is not loaded.
  uint32_t tokens_max = 0;         // Of a sequence; 0: what the model allows.
  bool has_whole_experts = false;  // Divided over the members of a wave, not over the ranks:
  ExpertHome expert_home;          // these are here.
};

using ModelFactory = StatusOr<std::unique_ptr<Model>> (*)(ModelSource source);

[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_bert(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_deepseek_v2(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_deepseek_v3(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_falcon(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_gemma(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_gemma2(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_gemma3(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_gpt2(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_gpt_neox(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_granite(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_llama(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_mistral(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_mixtral(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_olmo2(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_phi3(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_qwen2(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_qwen2_moe(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_qwen3(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_qwen3_moe(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_smollm3(ModelSource source);
[[nodiscard]] StatusOr<std::unique_ptr<Model>> make_stablelm(ModelSource source);

// kInvalidArgument naming the architecture and all that are supported.
[[nodiscard]] StatusOr<ModelFactory> find_model_factory(std::string_view architecture);

}  // namespace trireme::worker
