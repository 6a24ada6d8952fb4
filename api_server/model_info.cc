#include "api_server/model_info.h"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include "api_server/openai/json_fields.h"
#include "common/log.h"

namespace trireme::api {
namespace {

constexpr std::size_t kShownMax = 60;
constexpr int64_t kCountMax = std::numeric_limits<int32_t>::max();

Status refusal(std::string_view name, const JsonValue& value, const std::string& wanted) {
  return error(StatusCode::kInvalidArgument, "%s is %s, not %s", name,
               json_text(value).substr(0, kShownMax), wanted);
}

// Nothing where the field is absent or null.
std::optional<JsonValue> find(const JsonValue& root, std::string_view name) {
  JsonValue value;
  if (root.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return value;
}

// No model says an id beyond its vocabulary: such a one ends nothing.
void drop_unknown(uint32_t vocabulary_size, const JsonValue& eos, const std::string& path,
                  std::vector<int32_t>& ids) {
  const auto is_unknown = [&](int32_t id) {
    return vocabulary_size > 0 && static_cast<uint32_t>(id) >= vocabulary_size;
  };
  if (std::erase_if(ids, is_unknown) == 0) return;
  log::warning("eos_ids_dropped", {{"file", path},
                                   {"eos_token_id", json_text(eos).substr(0, kShownMax)},
                                   {"vocab_size", vocabulary_size}});
}

Status read_eos(const JsonValue& root, uint32_t vocabulary_size, const std::string& path,
                std::vector<int32_t>& out) {
  const auto eos = find(root, "eos_token_id");
  if (!eos) return {};
  std::vector<int32_t> ids;
  const auto read_one = [&](const JsonValue& item) {
    return read_int("", item, 0, kCountMax, ids.emplace_back());
  };
  Status status;
  if (eos->is_array()) {
    for (const JsonValue item : simdjson::dom::array(*eos)) status.Update(read_one(item));
  } else {
    status = read_one(*eos);
  }
  if (!status.ok()) {
    return refusal("eos_token_id", *eos,
                   absl::StrFormat("a token id in [0, %d], or a list", kCountMax));
  }
  drop_unknown(vocabulary_size, *eos, path, ids);
  if (!ids.empty()) out = std::move(ids);
  return {};
}

void read_uint(const JsonValue& root, const char* key, uint32_t& out) {
  int64_t number = 0;
  if (root.at_key(key).get_int64().get(number) == simdjson::SUCCESS && number > 0 &&
      number <= std::numeric_limits<int32_t>::max()) {
    out = static_cast<uint32_t>(number);
  }
}

struct Bounds {
  double low = 0;
  double high = 0;
  bool is_above_low = false;
};

Status read_float(const JsonValue& root, std::string_view name, Bounds bounds, float& out) {
  const auto value = find(root, name);
  if (!value) return {};
  double number = 0;
  if (value->get_double().get(number) == simdjson::SUCCESS && number <= bounds.high &&
      (bounds.is_above_low ? number > bounds.low : number >= bounds.low)) {
    out = static_cast<float>(number);
    return {};
  }
  return refusal(name, *value,
                 absl::StrFormat("a number in %s%g, %g]", bounds.is_above_low ? "(" : "[",
                                 bounds.low, bounds.high));
}

Status read_count(const JsonValue& root, std::string_view name, int64_t least, int64_t& out) {
  const auto value = find(root, name);
  if (!value) return {};
  if (read_integer(name, *value, least, kCountMax, out).ok()) return {};
  return refusal(name, *value, absl::StrFormat("a whole number of at least %d", least));
}

Status read_defaults(const JsonValue& root, SamplingDefaults& out) {
  constexpr Bounds kPart = {.low = 0, .high = 1, .is_above_low = true};
  constexpr Bounds kPenalty = {.low = 0, .high = 1e6, .is_above_low = true};
  wire::SamplingParams& sampling = out.sampling;
  TRIREME_RETURN_IF_ERROR(read_float(root, "temperature", {0, 2}, sampling.temperature));
  TRIREME_RETURN_IF_ERROR(read_float(root, "top_p", kPart, sampling.top_p));
  TRIREME_RETURN_IF_ERROR(read_float(root, "min_p", {0, 1}, sampling.min_p));
  TRIREME_RETURN_IF_ERROR(
      read_float(root, "repetition_penalty", kPenalty, sampling.repetition_penalty));
  int64_t top_k = 0;
  TRIREME_RETURN_IF_ERROR(read_count(root, "top_k", -1, top_k));
  sampling.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  int64_t tokens_max = 0;
  TRIREME_RETURN_IF_ERROR(read_count(root, "max_new_tokens", 1, tokens_max));
  if (tokens_max > 0) out.output_tokens_max = static_cast<uint32_t>(tokens_max);
  return {};
}

Status load(simdjson::dom::parser& parser, const std::string& path, JsonValue& root) {
  TRIREME_ASSIGN_OR_RETURN(root, read_json_file(parser, path));
  if (root.is_object()) return {};
  return error(StatusCode::kDataLoss, "%s: not a JSON object", path);
}

}  // namespace

StatusOr<ModelInfo> read_model_info(const std::string& directory,
                                    const std::string& generation_config) {
  ModelInfo info;
  simdjson::dom::parser parser;
  JsonValue root;
  const std::string config_path = directory + "/config.json";
  TRIREME_RETURN_IF_ERROR(load(parser, config_path, root));
  read_uint(root, "max_position_embeddings", info.tokens_max);
  read_uint(root, "vocab_size", info.vocabulary_size);
  TRIREME_RETURN_IF_ERROR(
      annotate(read_eos(root, info.vocabulary_size, config_path, info.eos_token_ids), config_path));
  const bool is_elsewhere = generation_config != "auto" && generation_config != "vllm";
  const std::string path =
      (is_elsewhere ? generation_config : directory) + "/generation_config.json";
  if (!is_elsewhere && ::access(path.c_str(), F_OK) != 0) return info;
  TRIREME_RETURN_IF_ERROR(
      annotate(load(parser, path, root), is_elsewhere ? "--generation-config" : "model"));
  TRIREME_RETURN_IF_ERROR(
      annotate(read_eos(root, info.vocabulary_size, path, info.eos_token_ids), path));
  if (generation_config == "vllm") return info;
  TRIREME_RETURN_IF_ERROR(annotate(read_defaults(root, info.defaults), path));
  return info;
}

}  // namespace trireme::api
