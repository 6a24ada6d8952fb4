#include "api_server/openai/pooler_info.h"

#include <unistd.h>

#include <algorithm>

#include "api_server/openai/json_fields.h"
#include "common/options/pooler.h"

namespace trireme::api {
namespace {

constexpr std::string_view kEncoder = "BertModel";

struct PoolingName {
  std::string_view field;  // Of the pooling's config.json.
  std::string_view flag;   // In --pooler-config.
  std::string_view mode;   // pooling_mode, of newer directories.
  std::optional<wire::Pooling> pooling;
};

constexpr PoolingName kPoolings[] = {
    {"pooling_mode_cls_token", "CLS", "cls", wire::Pooling::kCls},
    {"pooling_mode_mean_tokens", "MEAN", "mean", wire::Pooling::kMean},
    {"pooling_mode_lasttoken", "LAST", "lasttoken", wire::Pooling::kLast},
    {"pooling_mode_max_tokens", "", "max", std::nullopt},
    {"pooling_mode_mean_sqrt_len_tokens", "", "mean_sqrt_len_tokens", std::nullopt},
    {"pooling_mode_weightedmean_tokens", "", "weightedmean", std::nullopt},
};

Status not_supported(const std::string& path, std::string_view what) {
  return error(StatusCode::kUnimplemented,
               "%s: %s is not supported; supported are pooling of the first token, the last one or "
               "their mean, normalised or not",
               path, what);
}

StatusOr<wire::Pooling> read_pooling(const std::string& path) {
  simdjson::dom::parser parser;
  TRIREME_ASSIGN_OR_RETURN(const JsonValue root, read_json_file(parser, path));
  std::string_view mode;
  const bool has_mode = root.at_key("pooling_mode").get(mode) == simdjson::SUCCESS;
  std::optional<wire::Pooling> found;
  for (const PoolingName& name : kPoolings) {
    bool is_set = false;
    if (root.at_key(name.field).get(is_set) != simdjson::SUCCESS) is_set = false;
    if (!is_set && !(has_mode && mode == name.mode)) continue;
    if (!name.pooling) return not_supported(path, name.field);
    if (found && *found != *name.pooling) return not_supported(path, "more than one pooling");
    found = name.pooling;
  }
  if (!found) {
    return not_supported(path,
                         has_mode ? mode : std::string_view("no pooling_mode_* that is true"));
  }
  return *found;
}

// The modules in their order: Transformer, Pooling, Normalize or none.
Status read_modules(const std::string& directory, PoolerInfo& info) {
  const std::string path = directory + "/modules.json";
  simdjson::dom::parser parser;
  TRIREME_ASSIGN_OR_RETURN(const JsonValue root, read_json_file(parser, path));
  simdjson::dom::array modules;
  if (root.get_array().get(modules) != simdjson::SUCCESS) {
    return error(StatusCode::kInvalidArgument, "%s is not a JSON array", path);
  }
  bool pools = false;
  info.normalises = false;
  for (const JsonValue module : modules) {
    std::string_view type;
    std::string_view folder;
    if (module.at_key("type").get(type) != simdjson::SUCCESS ||
        module.at_key("path").get(folder) != simdjson::SUCCESS) {
      return error(StatusCode::kInvalidArgument, "%s: a module has no type or path", path);
    }
    const std::string_view name = type.substr(type.rfind('.') + 1);
    if (name == "Pooling") {
      const std::string config = directory + "/" + std::string(folder) + "/config.json";
      TRIREME_ASSIGN_OR_RETURN(info.pooling, read_pooling(config));
      pools = true;
    } else if (name == "Normalize") {
      info.normalises = true;
    } else if (name != "Transformer") {
      return not_supported(path, std::string("the module ") + std::string(type));
    }
  }
  return pools ? Status() : not_supported(path, "a list without the module Pooling");
}

uint32_t whole_number(const JsonValue& root, std::string_view key) {
  int64_t number = 0;
  const bool fits = root.at_key(key).get(number) == simdjson::SUCCESS && number > 0 &&
                    number <= std::numeric_limits<int32_t>::max();
  return fits ? static_cast<uint32_t>(number) : 0;
}

void read_cuts(const JsonValue& root, PoolerInfo& info) {
  if (root.at_key("is_matryoshka").get(info.can_be_cut) != simdjson::SUCCESS) {
    info.can_be_cut = false;
  }
  simdjson::dom::array cuts;
  if (root.at_key("matryoshka_dimensions").get(cuts) != simdjson::SUCCESS) return;
  info.can_be_cut = true;
  for (const JsonValue cut : cuts) {
    int64_t number = 0;
    if (cut.get(number) == simdjson::SUCCESS && number > 0 && number <= info.dimensions) {
      info.cuts.push_back(static_cast<uint32_t>(number));
    }
  }
}

Status read_length(const std::string& directory, PoolerInfo& info) {
  const std::string path = directory + "/sentence_bert_config.json";
  if (::access(path.c_str(), F_OK) != 0) return {};
  simdjson::dom::parser parser;
  TRIREME_ASSIGN_OR_RETURN(const JsonValue root, read_json_file(parser, path));
  info.prompt_tokens_max = whole_number(root, "max_seq_length");
  return {};
}

void apply_flags(const PoolerOptions& flags, PoolerInfo& info) {
  for (const PoolingName& name : kPoolings) {
    if (name.pooling && name.flag == flags.pooling_type) info.pooling = *name.pooling;
  }
  info.normalises = flags.normalize.value_or(info.normalises);
}

}  // namespace

StatusOr<std::optional<PoolerInfo>> read_pooler_info(const ServeOptions& options) {
  const std::string& directory = options.model_directory();
  simdjson::dom::parser parser;
  TRIREME_ASSIGN_OR_RETURN(const JsonValue root,
                           read_json_file(parser, directory + "/config.json"));
  std::string_view architecture;
  const bool is_encoder =
      root.at_pointer("/architectures/0").get(architecture) == simdjson::SUCCESS &&
      architecture == kEncoder;
  if (is_encoder && options.model.runner == Runner::kGenerate) {
    return error(StatusCode::kInvalidArgument,
                 "--runner generate: %s generates no text; it is served for embeddings", kEncoder);
  }
  if (!is_encoder && !serves_embeddings(options)) return std::optional<PoolerInfo>();
  PoolerInfo info;
  info.dimensions = whole_number(root, "hidden_size");
  info.pooling = is_encoder ? wire::Pooling::kCls : wire::Pooling::kLast;
  read_cuts(root, info);
  if (::access((directory + "/modules.json").c_str(), F_OK) == 0) {
    TRIREME_RETURN_IF_ERROR(read_modules(directory, info));
  }
  TRIREME_RETURN_IF_ERROR(read_length(directory, info));
  apply_flags(options.model.pooler, info);
  return std::optional(std::move(info));
}

}  // namespace trireme::api
