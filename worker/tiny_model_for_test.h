// A Llama or Mixtral directory of two layers with random fp32 weights, the same every time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/random.h"
#include "common/status.h"
#include "worker/weights/test_directory.h"

namespace trireme::worker {

class WeightsWriter {
 public:
  void add(const std::string& name, const std::vector<uint32_t>& shape) {
    std::size_t count = 1;
    std::string dimensions;
    for (const uint32_t dimension : shape) {
      count *= dimension;
      absl::StrAppendFormat(&dimensions, "%s%u", dimensions.empty() ? "" : ",", dimension);
    }
    const std::size_t begin = data_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(random_.unit() - 0.5);
      data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    absl::StrAppendFormat(&header_, R"(%s"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%u,%u]})",
                          header_.empty() ? "" : ",", name, dimensions, begin, data_.size());
  }
  [[nodiscard]] std::string bytes() const { return safetensors_bytes("{" + header_ + "}", data_); }

 private:
  Random random_{7};
  std::string header_;
  std::string data_;
};

// `more`: fields that config.json has besides, with a comma before each. With `experts` there are
// so many in the place of each MLP.
inline void write_tiny_model(const TestDirectory& directory, std::string_view architecture,
                             std::string_view more = "", uint32_t experts = 0) {
  constexpr uint32_t kVocabulary = 40;
  constexpr uint32_t kHidden = 16;
  constexpr uint32_t kQuery = 32;
  constexpr uint32_t kKeyValue = 16;
  constexpr uint32_t kIntermediate = 32;
  directory.write(
      "config.json",
      absl::StrFormat(R"({"architectures":["%s"],"vocab_size":%u,"hidden_size":%u,)"
                      R"("intermediate_size":%u,"num_hidden_layers":2,"num_attention_heads":4,)"
                      R"("num_key_value_heads":2,"head_dim":8,"max_position_embeddings":64,)"
                      R"("rms_norm_eps":1e-5,"tie_word_embeddings":true%s})",
                      architecture, kVocabulary, kHidden, kIntermediate, more));
  WeightsWriter weights;
  weights.add("model.embed_tokens.weight", {kVocabulary, kHidden});
  weights.add("model.norm.weight", {kHidden});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    weights.add(layer + "input_layernorm.weight", {kHidden});
    weights.add(layer + "post_attention_layernorm.weight", {kHidden});
    weights.add(layer + "self_attn.q_proj.weight", {kQuery, kHidden});
    weights.add(layer + "self_attn.k_proj.weight", {kKeyValue, kHidden});
    weights.add(layer + "self_attn.v_proj.weight", {kKeyValue, kHidden});
    weights.add(layer + "self_attn.o_proj.weight", {kHidden, kQuery});
    if (experts > 0) weights.add(layer + "block_sparse_moe.gate.weight", {experts, kHidden});
    for (uint32_t i = 0; i < experts; ++i) {
      const std::string expert = layer + "block_sparse_moe.experts." + std::to_string(i) + ".";
      weights.add(expert + "w1.weight", {kIntermediate, kHidden});
      weights.add(expert + "w2.weight", {kHidden, kIntermediate});
      weights.add(expert + "w3.weight", {kIntermediate, kHidden});
    }
    if (experts > 0) continue;
    weights.add(layer + "mlp.gate_proj.weight", {kIntermediate, kHidden});
    weights.add(layer + "mlp.up_proj.weight", {kIntermediate, kHidden});
    weights.add(layer + "mlp.down_proj.weight", {kHidden, kIntermediate});
  }
  directory.write("model.safetensors", weights.bytes());
}

inline void write_tiny_mixture(const TestDirectory& directory) {
  write_tiny_model(directory, "MixtralForCausalLM",
                   R"(,"num_local_experts":4,"num_experts_per_tok":2)", 4);
}

}  // namespace trireme::worker
