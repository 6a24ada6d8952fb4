// ModelConfig: what config.json of a Hugging Face directory says about the network.
//
// Reads what all decoders have, in the spellings of GPT-2 (n_embd), Falcon and the Llama family and
// of transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5 (rope_parameters, dtype); of a
// multimodal model, those of its text_config. What
// only one architecture has its own file reads through fields(). A field of the wrong type, a count
// out of range or numbers that do not fit together are errors that name the field and the value.
// Which architectures and rope types can run is the model registry's matter.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/weights/config_fields.h"
#include "worker/weights/quantization_config.h"
#include "worker/weights/quantized_layers.h"

namespace trireme::worker {

// Rope frequency scaling, all kinds' parameters in one. Fields as in transformers; those that
// `type` does not use keep their defaults.
struct RopeScaling {
  std::string type = "default";  // default, linear, dynamic, yarn, longrope, llama3, or unknown.
  double factor = 1;
  bool has_factor = false;              // Given, not assumed.
  uint32_t original_positions_max = 0;  // original_max_position_embeddings; 0: not given.
  // llama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  // yarn
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;  // 0: not given.
  double mscale_all_dim = 0;
  bool truncate = true;
  // yarn, longrope
  std::optional<double> attention_factor;
  // longrope: one factor per pair of dimensions.
  std::vector<double> short_factor;
  std::vector<double> long_factor;

  bool operator==(const RopeScaling&) const = default;
};

// Multi-head latent attention (DeepSeek): what is kept of a token is its latent, from which each
// head makes its keys and values, and one rotary key for all heads.
struct LatentSizes {
  uint32_t q_rank = 0;   // q_lora_rank: queries too are made of a latent; 0: of the hidden state.
  uint32_t kv_rank = 0;  // kv_lora_rank: of the latent.
  uint32_t plain_size = 0;  // qk_nope_head_dim: the part of a query and a key that does not turn.
  uint32_t rope_size = 0;   // qk_rope_head_dim: the part that does.
  uint32_t value_size = 0;  // v_head_dim
};

struct ModelConfig {
  std::string architecture;  // architectures[0]: "LlamaForCausalLM"
  std::string model_type;    // "llama"
  uint32_t vocabulary_size = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t layer_count = 0;
  uint32_t head_count = 0;
  uint32_t kv_head_count = 0;
  uint32_t head_dim = 0;
  uint32_t positions_max = 0;  // max_position_embeddings
  float norm_eps = 1e-6F;      // rms_norm_eps, layer_norm_eps, layer_norm_epsilon
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  // Layers with a sliding window turn by this theta, unscaled (Gemma 3).
  std::optional<double> local_rope_theta;
  std::optional<double> partial_rotary_factor;  // Absent: as the architecture has it.
  std::optional<bool> tie_word_embeddings;      // Absent: as the checkpoint has it.
  bool attention_bias = false;  // As written; Qwen2's q, k and v biases are not written there.
  bool mlp_bias = false;
  std::string hidden_act = "silu";
  std::string dtype;  // "bfloat16", "float16", "float32"; empty: not given.

  // Sliding window attention: a token sees itself and window - 1 tokens before. 0: all tokens.
  uint32_t sliding_window = 0;            // Already 0 when use_sliding_window is false.
  std::vector<uint8_t> layer_is_sliding;  // [layer_count]
  bool has_layer_types = false;           // Written, not assumed.

  // Mixture of experts; 0: dense.
  uint32_t expert_count = 0;              // num_local_experts, num_experts, n_routed_experts
  uint32_t experts_per_token = 0;         // num_experts_per_tok
  uint32_t expert_intermediate_size = 0;  // moe_intermediate_size, else intermediate_size
  // shared_expert_intermediate_size, or n_shared_experts of the above; 0: none.
  uint32_t shared_expert_size = 0;

  std::optional<LatentSizes> latent;

  QuantizationConfig quantization;
  QuantizedLayers quantized_layers;

  [[nodiscard]] uint32_t window_of_layer(uint32_t layer) const {
    return layer_is_sliding[layer] != 0 ? sliding_window : 0;
  }

  [[nodiscard]] ConfigFields fields() const { return {json, path}; }
  std::shared_ptr<const ConfigJson> json;  // All of it.
  std::string path;
};

// `text` is config.json's; `path` only names it in errors.
[[nodiscard]] StatusOr<ModelConfig> parse_model_config(std::string_view text,
                                                       const std::string& path);

}  // namespace trireme::worker
