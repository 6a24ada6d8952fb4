#include "api_server/model_info.h"

#include <unistd.h>

#include "api_server/openai/json_fields.h"

namespace trireme::api {
namespace {

void read_eos(const JsonValue& root, std::vector<int32_t>& out) {
  JsonValue eos;
  if (root.at_key("eos_token_id").get(eos) != simdjson::SUCCESS) return;
  std::vector<int32_t> ids;
  int64_t id = 0;
  if (eos.is_array()) {
    for (const JsonValue item : simdjson::dom::array(eos)) {
      if (item.get_int64().get(id) == simdjson::SUCCESS) ids.push_back(static_cast<int32_t>(id));
    }
  } else if (eos.get_int64().get(id) == simdjson::SUCCESS) {
    ids.push_back(static_cast<int32_t>(id));
  }
  if (!ids.empty()) out = std::move(ids);
}

void read_uint(const JsonValue& root, const char* key, uint32_t& out) {
  int64_t number = 0;
  if (root.at_key(key).get_int64().get(number) == simdjson::SUCCESS && number > 0 &&
      number <= std::numeric_limits<int32_t>::max()) {
    out = static_cast<uint32_t>(number);
  }
}

void read_float(const JsonValue& root, const char* key, float& out) {
  double number = 0;
  if (root.at_key(key).get_double().get(number) == simdjson::SUCCESS) {
    out = static_cast<float>(number);
  }
}

void read_defaults(const JsonValue& root, SamplingDefaults& out) {
  read_float(root, "temperature", out.sampling.temperature);
  read_float(root, "top_p", out.sampling.top_p);
  read_float(root, "min_p", out.sampling.min_p);
  read_float(root, "repetition_penalty", out.sampling.repetition_penalty);
  int64_t top_k = 0;
  if (root.at_key("top_k").get_int64().get(top_k) == simdjson::SUCCESS && top_k > 0) {
    out.sampling.top_k = static_cast<int32_t>(top_k);
  }
  uint32_t tokens_max = 0;
  read_uint(root, "max_new_tokens", tokens_max);
  if (tokens_max > 0) out.output_tokens_max = tokens_max;
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
  TRIREME_RETURN_IF_ERROR(load(parser, directory + "/config.json", root));
  read_uint(root, "max_position_embeddings", info.tokens_max);
  read_uint(root, "vocab_size", info.vocabulary_size);
  read_eos(root, info.eos_token_ids);
  const bool is_elsewhere = generation_config != "auto" && generation_config != "vllm";
  const std::string path =
      (is_elsewhere ? generation_config : directory) + "/generation_config.json";
  if (!is_elsewhere && ::access(path.c_str(), F_OK) != 0) return info;
  TRIREME_RETURN_IF_ERROR(
      annotate(load(parser, path, root), is_elsewhere ? "--generation-config" : "model"));
  read_eos(root, info.eos_token_ids);
  if (generation_config != "vllm") read_defaults(root, info.defaults);
  return info;
}

}  // namespace trireme::api
