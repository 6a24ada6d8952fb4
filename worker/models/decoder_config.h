// DecoderConfig: how one architecture arranges the shared decoder (decoder.h). An architecture file
// fills it from config.json; nothing below knows an architecture's name. The defaults are Llama's.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "worker/device.h"
#include "worker/weights/model_config.h"

namespace trireme::worker {

// Where the checkpoint keeps what, without ".weight" or ".bias". Empty: the architecture has none.
struct DecoderNames {
  std::string prefix = "model.";  // Of all but the head.
  std::string embedding = "embed_tokens";
  std::string positions;       // Learned ones.
  std::string token_types;     // Learned ones, of which every token is of the first.
  std::string embedding_norm;  // Before the first layer.
  std::string layers = "layers";
  std::string final_norm = "norm";
  std::string head = "lm_head";  // Empty: it gives hidden states only.
  // Of one layer.
  std::string attention_norm = "input_layernorm";
  std::string q = "self_attn.q_proj";
  std::string k = "self_attn.k_proj";
  std::string v = "self_attn.v_proj";
  std::string qkv;  // In their place, by qkv_layout.
  std::string q_norm = "self_attn.q_norm";
  std::string k_norm = "self_attn.k_norm";
  std::string output = "self_attn.o_proj";
  std::string attention_post_norm;  // Of what attention adds to the residual stream.
  std::string mlp_norm = "post_attention_layernorm";
  std::string gate = "mlp.gate_proj";
  std::string up = "mlp.up_proj";  // Without a gate: the MLP is down(activation(up(x))).
  std::string gate_up;             // Both stacked, in their place.
  std::string down = "mlp.down_proj";
  std::string mlp_post_norm;
};

enum class QkvLayout : uint8_t {
  kSeparate,  // Three matrices.
  kStacked,   // All of q, then k, then v.
  kGrouped,   // For each K/V head: its queries, then k, then v.
};

enum class NormKind : uint8_t { kRms, kLayer };

enum class QkNorm : uint8_t {
  kNone,
  kHead,       // RMS over each head, all heads with the same weight.
  kWide,       // RMS over all heads together.
  kHeadLayer,  // Layer norm over each head with a weight of its own, `q_norm.norms.<head>`.
};

// By which angles the heads of a layer turn.
enum class LayerRope : uint8_t { kNone, kGlobal, kLocal };

// A mixture of experts in the place of the MLP, in some layers or all.
struct MixtureConfig {
  uint32_t expert_count = 0;
  uint32_t expert_size = 0;  // Intermediate columns of one.
  Routing routing = {};
  uint32_t shared_size = 0;            // Of one more MLP that every token goes through; 0: none.
  std::vector<uint8_t> is_dense = {};  // [layer_count]: those with the MLP; empty: none.
  // Where the checkpoint keeps what, within a layer.
  std::string router = "mlp.gate";
  std::string router_bias = "";  // Empty: none.
  std::string experts = "mlp.experts";
  std::string gate = "gate_proj";  // Of an expert.
  std::string up = "up_proj";
  std::string down = "down_proj";
  std::string shared = "";
  std::string shared_gate = "";  // What the shared one gives is scaled by its sigmoid; empty: by 1.
};

struct DecoderConfig {
  ModelConfig sizes;
  DecoderNames names = {};
  bool is_transposed = false;  // Linear layers are stored [in][out].
  QkvLayout qkv_layout = QkvLayout::kSeparate;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  NormKind norm = NormKind::kRms;
  bool norm_bias = false;
  float norm_added = 0.0F;  // To the stored norm weights.
  QkNorm qk_norm = QkNorm::kNone;
  // With sizes.latent: the rotary parts are stored so that values 2i and 2i + 1 turn together.
  bool turns_neighbours = false;
  // x + attention(norm(x)) + mlp(norm(x)); without an mlp_norm both see the same norm.
  bool parallel_residual = false;
  // norm(x + attention(x)), then norm(x + mlp(x)): by the norms *_post_norm, layer norms.
  bool norm_after = false;
  bool sees_both_ways = false;  // A token sees those after it too.
  float embedding_scale = 1.0F;
  float residual_scale = 1.0F;   // Of what each block adds to the residual stream.
  float attention_scale = 0.0F;  // 0: 1 / sqrt(head_dim).
  float logits_scale = 1.0F;
  float attention_soft_cap = 0.0F;  // 0: none.
  float logits_soft_cap = 0.0F;
  std::optional<MixtureConfig> mixture = {};
  std::vector<uint32_t> window_tokens = {};  // [layer_count]; 0: all.
  std::vector<LayerRope> ropes = {};         // [layer_count]; empty: as ropes_of().

  [[nodiscard]] bool has_mixture(uint32_t layer) const {
    return mixture && (mixture->is_dense.empty() || mixture->is_dense[layer] == 0);
  }
  [[nodiscard]] bool has_dense_layer() const {
    return !mixture || std::ranges::find(mixture->is_dense, 1) != mixture->is_dense.end();
  }
};

// kInvalidArgument where the mixture's numbers do not fit together.
[[nodiscard]] Status check_mixture(const MixtureConfig& mixture);
// window_tokens as config.json says, or none at all.
[[nodiscard]] std::vector<uint32_t> windows_of(const ModelConfig& config);
[[nodiscard]] std::vector<uint32_t> no_windows(const ModelConfig& config);
// kLocal where a layer has a window and windows have a theta of their own, else kGlobal.
[[nodiscard]] std::vector<LayerRope> ropes_of(const ModelConfig& config);
[[nodiscard]] std::vector<LayerRope> no_ropes(const ModelConfig& config);
// hidden_act by its name in transformers.
[[nodiscard]] StatusOr<Activation> activation_of(const ModelConfig& config);

}  // namespace trireme::worker
