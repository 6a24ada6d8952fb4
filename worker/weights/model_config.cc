#include "worker/weights/model_config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "worker/weights/architectures.h"
#include "worker/weights/config_json.h"

namespace trireme::worker {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kLayersMax = 4096;
constexpr std::size_t kShownMax = 200;

const Json* find(const ConfigFields& fields, const char* name) {
  return fields.object().find(name);
}

std::string text_of(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

ConfigFields fields_of(const Json& object, const std::string& path) {
  return {std::make_shared<const ConfigJson>(ConfigJson{object}), path};
}

Status read_rope(const Json& object, const std::string& path, ModelConfig& config) {
  ConfigFields fields = fields_of(object, path);
  RopeScaling& rope = config.rope_scaling;
  fields.read("type", rope.type);  // The older spelling; rope_type wins.
  fields.read("rope_type", rope.type);
  fields.read("rope_theta", config.rope_theta);
  fields.read("partial_rotary_factor", config.partial_rotary_factor);
  fields.read("factor", rope.factor);
  fields.read("original_max_position_embeddings", rope.original_positions_max);
  fields.read("low_freq_factor", rope.low_freq_factor);
  fields.read("high_freq_factor", rope.high_freq_factor);
  fields.read("beta_fast", rope.beta_fast);
  fields.read("beta_slow", rope.beta_slow);
  fields.read("mscale", rope.mscale);
  fields.read("mscale_all_dim", rope.mscale_all_dim);
  fields.read("truncate", rope.truncate);
  fields.read("short_factor", rope.short_factor);
  fields.read("long_factor", rope.long_factor);
  fields.read("attention_factor", rope.attention_factor);
  rope.has_factor = fields.has("factor");
  if (rope.factor <= 0) fields.fail(absl::StrFormat("factor is %g, not above 0", rope.factor));
  return fields.status();
}

// The rope of layers with a sliding window, where it has parameters of its own.
Status read_local_rope(const Json& object, const std::string& path, ModelConfig& config) {
  ConfigFields fields = fields_of(object, path);
  std::string type = "default";
  fields.read("rope_type", type);
  if (type != "default") {
    return error(StatusCode::kUnimplemented,
                 "%s: rope_type \"%s\" is not supported for layers with a sliding window", path,
                 type);
  }
  config.local_rope_theta = config.rope_theta;
  fields.read("rope_theta", config.local_rope_theta);
  return fields.status();
}

Status read_rope_object(const Json& rope, const std::string& path, ModelConfig& config) {
  if (!rope.is_object()) {
    return error(StatusCode::kInvalidArgument, "%s is not an object", path);
  }
  bool differs = false;
  for (const auto& [key, value] : rope.items()) {
    if (!value.is_object()) continue;
    differs = true;
    if (key != "full_attention" && key != "sliding_attention") {
      return error(StatusCode::kUnimplemented,
                   "%s: layer type \"%s\" is not supported; supported are full_attention and "
                   "sliding_attention",
                   path, key);
    }
  }
  if (!differs) return read_rope(rope, path, config);
  if (const auto it = rope.find("sliding_attention"); it != rope.end() && it->is_object()) {
    TRIREME_RETURN_IF_ERROR(read_local_rope(*it, path + ": sliding_attention", config));
  }
  const auto it = rope.find("full_attention");
  if (it == rope.end() || !it->is_object()) return absl::OkStatus();
  return read_rope(*it, path + ": full_attention", config);
}

bool has_same_rope(const ModelConfig& a, const ModelConfig& b) {
  return a.rope_scaling == b.rope_scaling && a.rope_theta == b.rope_theta &&
         a.local_rope_theta == b.local_rope_theta &&
         a.partial_rotary_factor == b.partial_rotary_factor;
}

// The older and the newer spelling. Of both transformers takes the older alone; what differs is a
// mistake in one of them.
Status read_rope_objects(const ConfigFields& fields, ModelConfig& config) {
  const ModelConfig before = config;
  const Json* read_before = nullptr;
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = find(fields, name);
    if (rope == nullptr || *rope == Json::object()) continue;
    ModelConfig read = before;
    TRIREME_RETURN_IF_ERROR(
        read_rope_object(*rope, absl::StrFormat("%s: %s", fields.path(), name), read));
    if (read_before != nullptr && !has_same_rope(config, read)) {
      return error(StatusCode::kInvalidArgument,
                   "%s: rope_scaling %s and rope_parameters %s differ; leave one of them",
                   fields.path(), text_of(*read_before).substr(0, kShownMax),
                   text_of(*rope).substr(0, kShownMax));
    }
    config = std::move(read);
    read_before = rope;
  }
  return absl::OkStatus();
}

Status read_all_rope(ConfigFields& fields, ModelConfig& config) {
  fields.read_any({"rotary_emb_base", "rope_theta"}, config.rope_theta);
  fields.read_any({"rotary_pct", "partial_rotary_factor"}, config.partial_rotary_factor);
  fields.read("rope_local_base_freq", config.local_rope_theta);
  TRIREME_RETURN_IF_ERROR(read_rope_objects(fields, config));
  // Some directories keep it outside of the scaling.
  if (config.rope_scaling.original_positions_max == 0) {
    fields.read("original_max_position_embeddings", config.rope_scaling.original_positions_max);
  }
  for (const double theta : {config.rope_theta, config.local_rope_theta.value_or(1)}) {
    if (theta <= 0) fields.fail(absl::StrFormat("rope_theta is %g, not above 0", theta));
  }
  const double part = config.partial_rotary_factor.value_or(1);
  if (part <= 0 || part > 1) {
    fields.fail(absl::StrFormat("partial_rotary_factor is %g, not in (0, 1]", part));
  }
  // Of the others transformers turns whole heads, whatever is written.
  constexpr std::array<std::string_view, 3> kTurnParts = {"gpt_neox", "phi3", "stablelm"};
  if (config.rope_scaling.type == "default" &&
      std::ranges::find(kTurnParts, config.model_type) == kTurnParts.end()) {
    config.partial_rotary_factor.reset();
  }
  return fields.status();
}

// Qwen3-MoE has it in all layers, Qwen2-MoE in every other one of the first.
void read_mixture_window(ConfigFields& fields, ModelConfig& config) {
  const bool is_second = config.model_type == "qwen2_moe";
  uint32_t end = is_second ? 28 : config.layer_count;
  if (is_second) fields.read("max_window_layers", end, 0);
  for (uint32_t layer = 0; layer < std::min(end, config.layer_count); ++layer) {
    config.layer_is_sliding[layer] = is_second && layer % 2 != 0 ? 0 : 1;
  }
}

// Which layers use the window: the list if there is one; else all, from max_window_layers on.
void read_window(ConfigFields& fields, ModelConfig& config) {
  config.layer_is_sliding.assign(config.layer_count, 0);
  const bool is_qwen = config.model_type == "qwen2" || config.model_type == "qwen3";
  const bool is_qwen_mixture = config.model_type == "qwen2_moe" || config.model_type == "qwen3_moe";
  bool is_used = !is_qwen && !is_qwen_mixture && config.model_type != "smollm3";
  fields.read("use_sliding_window", is_used);
  if (!is_used) {
    config.sliding_window = 0;
    return;
  }
  fields.read_or_none("sliding_window", config.sliding_window);
  if (config.sliding_window == 0) return;
  config.has_layer_types = fields.has("layer_types");
  if (const Json* types = find(fields, "layer_types"); types != nullptr) {
    if (!types->is_array() || types->size() != config.layer_count) {
      return fields.fail("layer_types is not a list with one entry per layer");
    }
    for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
      const Json& type = (*types)[layer];
      const bool is_sliding = type == "sliding_attention";
      if (!is_sliding && type != "full_attention") {
        return fields.fail(
            absl::StrFormat("layer_types[%u] is %s: not supported", layer, text_of(type)));
      }
      config.layer_is_sliding[layer] = is_sliding ? 1 : 0;
    }
    return;
  }
  if (is_qwen_mixture) return read_mixture_window(fields, config);
  // Qwen alone has this; there the first layers keep full attention.
  uint32_t first = is_qwen ? 28 : 0;
  fields.read("max_window_layers", first, 0);
  for (uint32_t layer = first; layer < config.layer_count; ++layer) {
    config.layer_is_sliding[layer] = 1;
  }
}

void read_experts(ConfigFields& fields, ModelConfig& config) {
  fields.read_any({"n_routed_experts", "num_experts", "num_local_experts"}, config.expert_count);
  fields.read("num_experts_per_tok", config.experts_per_token);
  config.expert_intermediate_size = config.intermediate_size;
  fields.read("moe_intermediate_size", config.expert_intermediate_size);
  uint32_t shared_count = 0;
  fields.read("n_shared_experts", shared_count, 0);
  config.shared_expert_size = shared_count * config.expert_intermediate_size;
  fields.read("shared_expert_intermediate_size", config.shared_expert_size);
  if (config.expert_count == 0) {
    config.experts_per_token = 0;
    config.expert_intermediate_size = 0;
    config.shared_expert_size = 0;
  } else if (config.experts_per_token == 0 || config.experts_per_token > config.expert_count) {
    fields.fail(absl::StrFormat("num_experts_per_tok is %u with %u experts",
                                config.experts_per_token, config.expert_count));
  }
}

// A field that is missing stays 0 and is named.
void read_latent(ConfigFields& fields, ModelConfig& config) {
  if (!config.model_type.starts_with("deepseek_v")) return;
  LatentSizes& latent = config.latent.emplace();
  fields.read("q_lora_rank", latent.q_rank);
  const std::pair<const char*, uint32_t&> sizes[] = {{"kv_lora_rank", latent.kv_rank},
                                                     {"qk_nope_head_dim", latent.plain_size},
                                                     {"qk_rope_head_dim", latent.rope_size},
                                                     {"v_head_dim", latent.value_size}};
  for (const auto& [name, size] : sizes) {
    fields.read(name, size);
    if (size == 0) fields.fail(absl::StrFormat("%s is missing", name));
  }
}

Status read_quantized(const ConfigFields& fields, ModelConfig& config) {
  const char* key = QuantizationConfig().key;
  const Json* object = find(fields, key);
  if (object == nullptr) {
    key = "compression_config";
    object = find(fields, key);
  }
  if (object == nullptr) return absl::OkStatus();
  const std::string path = absl::StrFormat("%s: %s", fields.path(), key);
  if (!object->is_object()) {
    return error(StatusCode::kInvalidArgument, "%s is not an object", path);
  }
  const ConfigFields own = fields_of(*object, path);
  TRIREME_ASSIGN_OR_RETURN(config.quantization, read_quantization(own));
  config.quantization.key = key;
  TRIREME_ASSIGN_OR_RETURN(config.quantized_layers,
                           QuantizedLayers::read(own, config.quantization.method));
  return absl::OkStatus();
}

void read_architecture(ConfigFields& fields, ModelConfig& config) {
  const Json* names = find(fields, "architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string()) {
    const std::string given = names == nullptr ? "missing" : text_of(*names).substr(0, kShownMax);
    return fields.fail(absl::StrFormat("architectures is %s, but must be a list with one of %s",
                                       given, architecture_names()));
  }
  config.architecture = names->front().get<std::string>();
  fields.read("model_type", config.model_type);
}

void read_dtype(ConfigFields& fields, ModelConfig& config) {
  fields.read("torch_dtype", config.dtype);
  fields.read("dtype", config.dtype);
  constexpr std::string_view kPrefix = "torch.";
  if (config.dtype.starts_with(kPrefix)) config.dtype.erase(0, kPrefix.size());
}

void check_sizes(ConfigFields& fields, const ModelConfig& config) {
  if (config.layer_count > kLayersMax) {
    fields.fail(absl::StrFormat("num_hidden_layers is %u, over the limit of %u", config.layer_count,
                                kLayersMax));
  }
  if (config.kv_head_count == 0 || config.head_count % config.kv_head_count != 0) {
    fields.fail(absl::StrFormat("num_attention_heads %u is no multiple of num_key_value_heads %u",
                                config.head_count, config.kv_head_count));
  }
  if (config.head_dim == 0 || config.head_dim % 2 != 0) {
    fields.fail(absl::StrFormat("head_dim %u is not even and above 0", config.head_dim));
  }
  if (!(config.norm_eps >= 0)) {
    fields.fail(absl::StrFormat("the norms' epsilon is %g", config.norm_eps));
  }
}

// The last spelling is the one that most architectures have; an error names it.
void require(ConfigFields& fields, std::initializer_list<const char*> names, ModelConfig& config,
             uint32_t& out) {
  fields.read_any(names, out);
  if (out > 0) return;
  fields.fail(absl::StrFormat("%s is missing (architecture \"%s\")", *(names.end() - 1),
                              config.architecture));
}

struct TypeDefaults {
  std::string_view model_type;
  const char* hidden_act;
  float norm_eps = 1e-6F;
  double rope_theta = 10000;
  uint32_t sliding_window = 0;
};

constexpr std::array kTypeDefaults = {
    TypeDefaults{"bert", "gelu", 1e-12F},
    TypeDefaults{"falcon", "gelu", 1e-5F},
    TypeDefaults{"gemma2", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"gemma3_text", "silu", 1e-6F, 1e6, 4096},
    TypeDefaults{"gpt2", "gelu_new", 1e-5F},
    TypeDefaults{"gpt_neox", "gelu", 1e-5F},
    TypeDefaults{"mistral", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"mixtral", "silu", 1e-5F, 1e6},
    TypeDefaults{"olmo2", "silu", 1e-5F},
    TypeDefaults{"phi3", "silu", 1e-5F},
    TypeDefaults{"qwen2", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"qwen2_moe", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"qwen3", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"qwen3_moe", "silu", 1e-6F, 1e4, 4096},
    TypeDefaults{"smollm3", "silu", 1e-6F, 2e6},
    TypeDefaults{"stablelm", "silu", 1e-5F},
};

// What transformers assumes where published directories leave it out.
void assume_defaults(ModelConfig& config) {
  for (const TypeDefaults& defaults : kTypeDefaults) {
    if (defaults.model_type != config.model_type) continue;
    config.hidden_act = defaults.hidden_act;
    config.norm_eps = defaults.norm_eps;
    config.rope_theta = defaults.rope_theta;
    config.sliding_window = defaults.sliding_window;
  }
  if (config.model_type == "falcon") config.positions_max = 2048;
  if (config.model_type == "mixtral") {
    config.expert_count = 8;
    config.experts_per_token = 2;
  }
  if (config.model_type != "gemma3_text") return;
  config.vocabulary_size = 262208;
  config.head_count = 8;
  config.kv_head_count = 4;
  config.head_dim = 256;
  config.positions_max = 131072;
}

// A multimodal model keeps its language model's fields in an object of their own.
void merge_text_config(Json& json) {
  const auto it = json.find("text_config");
  if (it == json.end() || !it->is_object()) return;
  Json text = *it;
  text.erase("architectures");
  json.update(text);
}

void read_sizes(ConfigFields& fields, ModelConfig& config) {
  assume_defaults(config);
  require(fields, {"vocab_size"}, config, config.vocabulary_size);
  require(fields, {"n_embd", "hidden_size"}, config, config.hidden_size);
  if (config.model_type == "falcon" || config.model_type == "gpt2") {
    config.intermediate_size = 4 * config.hidden_size;
  }
  require(fields, {"n_inner", "ffn_hidden_size", "intermediate_size"}, config,
          config.intermediate_size);
  require(fields, {"n_layer", "num_hidden_layers"}, config, config.layer_count);
  require(fields, {"n_head", "num_attention_heads"}, config, config.head_count);
  require(fields, {"n_positions", "max_position_embeddings"}, config, config.positions_max);
  if (config.kv_head_count == 0) config.kv_head_count = config.head_count;
  fields.read_any({"num_kv_heads", "num_key_value_heads"}, config.kv_head_count);
  if (config.head_dim == 0 && config.head_count > 0) {
    config.head_dim = config.hidden_size / config.head_count;
  }
  fields.read("head_dim", config.head_dim);
  fields.read_any({"layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps"}, config.norm_eps);
  fields.read_any({"activation", "activation_function", "hidden_act", "hidden_activation"},
                  config.hidden_act);
}

}  // namespace

StatusOr<ModelConfig> parse_model_config(std::string_view text, const std::string& path) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    return error(StatusCode::kInvalidArgument, "%s is not a JSON object", path);
  }
  merge_text_config(json);
  ModelConfig config;
  config.json = std::make_shared<const ConfigJson>(ConfigJson{std::move(json)});
  config.path = path;
  ConfigFields fields = config.fields();
  read_architecture(fields, config);
  TRIREME_RETURN_IF_ERROR(fields.status());
  TRIREME_RETURN_IF_ERROR(check_architecture(config.architecture, path));
  TRIREME_RETURN_IF_ERROR(read_quantized(fields, config));
  read_sizes(fields, config);
  fields.read("tie_word_embeddings", config.tie_word_embeddings);
  fields.read("attention_bias", config.attention_bias);
  fields.read("mlp_bias", config.mlp_bias);
  read_dtype(fields, config);
  read_experts(fields, config);
  read_latent(fields, config);
  check_sizes(fields, config);
  TRIREME_RETURN_IF_ERROR(fields.status());
  read_window(fields, config);
  TRIREME_RETURN_IF_ERROR(read_all_rope(fields, config));
  return config;
}

}  // namespace trireme::worker
