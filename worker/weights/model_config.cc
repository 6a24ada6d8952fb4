#include "worker/weights/model_config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace trireme::worker {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kCountMax = 1U << 30;
constexpr uint32_t kLayersMax = 4096;

// Reads typed fields of one object; the first thing wrong is kept and ends the parse.
class Fields {
 public:
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  [[nodiscard]] const Status& status() const { return status_; }

  // Null counts as absent: transformers writes both.
  [[nodiscard]] const Json* find(const char* name) const {
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  void read(const char* name, uint32_t& out, uint32_t least = 1) {
    const Json* value = find(name);
    if (value == nullptr) return;
    const bool fits = value->is_number_unsigned() && value->get<uint64_t>() <= kCountMax &&
                      value->get<uint64_t>() >= least;
    if (!fits) return fail(name, *value, absl::StrFormat("a count in [%u, %u]", least, kCountMax));
    out = value->get<uint32_t>();
  }

  void read(const char* name, double& out) {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_number() || !std::isfinite(value->get<double>())) {
      return fail(name, *value, "a number");
    }
    out = value->get<double>();
  }

  void read(const char* name, bool& out) {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) return fail(name, *value, "true or false");
    out = value->get<bool>();
  }

  void read(const char* name, std::string& out) {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(name, *value, "a string");
    out = value->get<std::string>();
  }

  void read(const char* name, std::vector<double>& out) {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_array()) return fail(name, *value, "a list of numbers");
    for (const Json& item : *value) {
      if (!item.is_number()) return fail(name, item, "a list of numbers");
      out.push_back(item.get<double>());
    }
  }

  void require(const char* name, uint32_t& out) {
    if (find(name) == nullptr) return fail(absl::StrFormat("%s is missing", name));
    read(name, out);
  }

  void fail(const std::string& what) {
    if (status_.ok()) status_ = error(StatusCode::kInvalidArgument, "%s: %s", path_, what);
  }

 private:
  void fail(const char* name, const Json& value, const std::string& wanted) {
    constexpr std::size_t kShownMax = 60;
    const std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    fail(absl::StrFormat("%s is %s, not %s", name, shown.substr(0, kShownMax), wanted));
  }

  const Json& object_;
  std::string path_;
  Status status_ = absl::OkStatus();
};

Status read_rope(const Json& object, const std::string& path, ModelConfig& config) {
  Fields fields(object, path);
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
  if (fields.find("attention_factor") != nullptr) {
    fields.read("attention_factor", rope.attention_factor.emplace());
  }
  if (rope.factor <= 0) fields.fail(absl::StrFormat("factor is %g, not above 0", rope.factor));
  return fields.status();
}

Status read_all_rope(Fields& fields, const std::string& path, ModelConfig& config) {
  fields.read("rope_theta", config.rope_theta);
  fields.read("partial_rotary_factor", config.partial_rotary_factor);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = fields.find(name);
    if (rope == nullptr) continue;
    if (!rope->is_object()) {
      return error(StatusCode::kInvalidArgument, "%s: %s is not an object", path, name);
    }
    for (const auto& [key, value] : rope->items()) {
      if (!value.is_object()) continue;
      return error(StatusCode::kUnimplemented,
                   "%s: %s differs by layer type (\"%s\"): not supported", path, name, key);
    }
    TRIREME_RETURN_IF_ERROR(read_rope(*rope, absl::StrFormat("%s: %s", path, name), config));
  }
  // Some directories keep it outside of the scaling.
  if (config.rope_scaling.original_positions_max == 0) {
    fields.read("original_max_position_embeddings", config.rope_scaling.original_positions_max);
  }
  if (config.rope_theta <= 0) {
    fields.fail(absl::StrFormat("rope_theta is %g, not above 0", config.rope_theta));
  }
  return fields.status();
}

// Which layers use the window: the list if there is one; else all, from max_window_layers on.
void read_window(Fields& fields, ModelConfig& config) {
  config.layer_is_sliding.assign(config.layer_count, 0);
  bool is_used = true;
  fields.read("use_sliding_window", is_used);
  fields.read("sliding_window", config.sliding_window);
  if (!is_used) config.sliding_window = 0;
  if (config.sliding_window == 0) return;
  if (const Json* types = fields.find("layer_types"); types != nullptr) {
    if (!types->is_array() || types->size() != config.layer_count) {
      return fields.fail("layer_types is not a list with one entry per layer");
    }
    for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
      const Json& type = (*types)[layer];
      const bool is_sliding = type == "sliding_attention";
      if (!is_sliding && type != "full_attention") {
        return fields.fail(
            absl::StrFormat("layer_types[%u] is %s: not supported", layer,
                            type.dump(-1, ' ', true, Json::error_handler_t::replace)));
      }
      config.layer_is_sliding[layer] = is_sliding ? 1 : 0;
    }
    return;
  }
  uint32_t first = 0;
  // Qwen2 alone has this; there the first layers keep full attention.
  fields.read("max_window_layers", first, 0);
  for (uint32_t layer = first; layer < config.layer_count; ++layer) {
    config.layer_is_sliding[layer] = 1;
  }
}

void read_experts(Fields& fields, ModelConfig& config) {
  fields.read("num_experts", config.expert_count);
  fields.read("num_local_experts", config.expert_count);
  fields.read("num_experts_per_tok", config.experts_per_token);
  config.expert_intermediate_size = config.intermediate_size;
  fields.read("moe_intermediate_size", config.expert_intermediate_size);
  if (config.expert_count == 0) {
    config.experts_per_token = 0;
    config.expert_intermediate_size = 0;
  } else if (config.experts_per_token == 0 || config.experts_per_token > config.expert_count) {
    fields.fail(absl::StrFormat("num_experts_per_tok is %u with %u experts",
                                config.experts_per_token, config.expert_count));
  }
}

Status refuse_quantized(const Fields& fields, const std::string& path) {
  const Json* quantization = fields.find("quantization_config");
  if (quantization == nullptr) return absl::OkStatus();
  std::string method = "unknown";
  if (quantization->is_object() && quantization->contains("quant_method") &&
      (*quantization)["quant_method"].is_string()) {
    method = (*quantization)["quant_method"].get<std::string>();
  }
  return error(StatusCode::kUnimplemented,
               "%s: quantization_config (quant_method \"%s\") is not supported: use the model's "
               "bf16, fp16 or fp32 weights",
               path, method);
}

void read_architecture(Fields& fields, ModelConfig& config) {
  const Json* names = fields.find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string()) {
    return fields.fail("architectures does not name one");
  }
  config.architecture = names->front().get<std::string>();
  fields.read("model_type", config.model_type);
}

void read_dtype(Fields& fields, ModelConfig& config) {
  fields.read("torch_dtype", config.dtype);
  fields.read("dtype", config.dtype);
  constexpr std::string_view kPrefix = "torch.";
  if (config.dtype.starts_with(kPrefix)) config.dtype.erase(0, kPrefix.size());
}

void check_sizes(Fields& fields, const ModelConfig& config) {
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
  if (!(config.rms_norm_eps >= 0)) {
    fields.fail(absl::StrFormat("rms_norm_eps is %g", config.rms_norm_eps));
  }
}

}  // namespace

StatusOr<ModelConfig> parse_model_config(std::string_view text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    return error(StatusCode::kInvalidArgument, "%s is not a JSON object", path);
  }
  ModelConfig config;
  Fields fields(json, path);
  read_architecture(fields, config);
  TRIREME_RETURN_IF_ERROR(fields.status());
  TRIREME_RETURN_IF_ERROR(refuse_quantized(fields, path));
  fields.require("vocab_size", config.vocabulary_size);
  fields.require("hidden_size", config.hidden_size);
  fields.require("intermediate_size", config.intermediate_size);
  fields.require("num_hidden_layers", config.layer_count);
  fields.require("num_attention_heads", config.head_count);
  fields.require("max_position_embeddings", config.positions_max);
  config.kv_head_count = config.head_count;
  fields.read("num_key_value_heads", config.kv_head_count);
  config.head_dim = config.head_count == 0 ? 0 : config.hidden_size / config.head_count;
  fields.read("head_dim", config.head_dim);
  double eps = static_cast<double>(config.rms_norm_eps);
  fields.read("rms_norm_eps", eps);
  config.rms_norm_eps = static_cast<float>(eps);
  fields.read("tie_word_embeddings", config.tie_word_embeddings);
  fields.read("attention_bias", config.attention_bias);
  fields.read("mlp_bias", config.mlp_bias);
  fields.read("hidden_act", config.hidden_act);
  read_dtype(fields, config);
  read_experts(fields, config);
  check_sizes(fields, config);
  TRIREME_RETURN_IF_ERROR(fields.status());
  read_window(fields, config);
  TRIREME_RETURN_IF_ERROR(read_all_rope(fields, path, config));
  return config;
}

}  // namespace trireme::worker
