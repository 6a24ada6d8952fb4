#include "worker/weights/quantized_layers.h"

#include <re2/re2.h>

#include <algorithm>
#include <optional>

#include "worker/weights/config_json.h"

namespace trireme::worker {
namespace {

using Json = nlohmann::json;
using Method = QuantizationMethod;

constexpr std::size_t kShownMax = 60;
constexpr std::string_view kExpressionPrefix = "re:";

bool add_names(const Json& list, std::vector<std::string>& names) {
  if (!list.is_array()) return false;
  return std::ranges::all_of(list, [&](const Json& entry) {
    if (entry.is_string()) names.push_back(entry.get<std::string>());
    return entry.is_string();
  });
}

// Lists in the list count as one with it: gptq has one for each part of a block.
bool add_all_names(const Json& list, std::vector<std::string>& names) {
  if (add_names(list, names)) return true;
  names.clear();
  return list.is_array() &&
         std::ranges::all_of(list, [&](const Json& inner) { return add_names(inner, names); });
}

std::vector<std::string> read_names(ConfigFields& fields, const char* name) {
  std::vector<std::string> names;
  const Json* list = fields.object().find(name);
  if (list != nullptr && !add_all_names(*list, names)) {
    const std::string shown = list->is_structured()
                                  ? absl::StrFormat("an %s", list->type_name())
                                  : list->dump(-1, ' ', true, Json::error_handler_t::replace);
    fields.fail(absl::StrFormat("%s is %s, not a list of names", name, shown.substr(0, kShownMax)));
  }
  return names;
}

// Of all groups together.
StatusOr<std::vector<std::string>> read_targets(const ConfigFields& fields) {
  std::vector<std::string> targets;
  const Json* groups = fields.object().find("config_groups");
  if (groups == nullptr || !groups->is_object()) return targets;
  for (const auto& [name, group] : groups->items()) {
    ConfigFields of_group(
        std::make_shared<const ConfigJson>(ConfigJson{group.is_object() ? group : Json::object()}),
        fields.path() + ": config_groups: " + name);
    for (std::string& target : read_names(of_group, "targets")) {
      targets.push_back(std::move(target));
    }
    TRIREME_RETURN_IF_ERROR(of_group.status());
  }
  return targets;
}

bool has_part(const std::string& layer, const std::vector<std::string>& parts) {
  return std::ranges::any_of(
      parts, [&](const std::string& part) { return layer.find(part) != std::string::npos; });
}

}  // namespace

QuantizedLayers::Patterns QuantizedLayers::patterns_of(Names names) {
  Patterns patterns;
  for (std::string& name : names) {
    const std::string_view text = name;
    Pattern pattern;
    if (text.starts_with(kExpressionPrefix)) {
      const std::string_view expression = text.substr(kExpressionPrefix.size());
      RE2::Options options;
      options.set_log_errors(false);
      pattern.expression = std::make_shared<const RE2>(
          re2::StringPiece(expression.data(), expression.size()), options);
    }
    pattern.name = std::move(name);
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

// Nothing where none matches and one could not be read.
std::optional<bool> QuantizedLayers::matches_any(std::string_view layer, const Patterns& patterns) {
  std::optional<bool> found = false;
  for (const Pattern& pattern : patterns) {
    if (pattern.expression == nullptr) {
      if (layer == pattern.name) return true;
    } else if (!pattern.expression->ok()) {
      found.reset();
    } else if (pattern.expression->Match(re2::StringPiece(layer.data(), layer.size()), 0,
                                         layer.size(), RE2::ANCHOR_START, nullptr, 0)) {
      return true;  // As Python's re.match: not necessarily to the last character.
    }
  }
  return found;
}

StatusOr<QuantizedLayers> QuantizedLayers::read(ConfigFields fields, Method method) {
  QuantizedLayers layers;
  layers.method_ = method;
  switch (method) {
    case Method::kNone:
      break;
    case Method::kGptq:
      layers.wanted_parts_ = read_names(fields, "modules_in_block_to_quantize");
      break;
    case Method::kFp8:
      layers.left_out_parts_ = read_names(fields, "ignored_layers");
      [[fallthrough]];
    case Method::kAwq:
      for (std::string& name : read_names(fields, "modules_to_not_convert")) {
        layers.left_out_parts_.push_back(std::move(name));
      }
      break;
    case Method::kCompressedTensors:
      layers.left_out_ = patterns_of(read_names(fields, "ignore"));
      TRIREME_ASSIGN_OR_RETURN(Names targets, read_targets(fields));
      layers.wanted_ = patterns_of(std::move(targets));
      break;
  }
  TRIREME_RETURN_IF_ERROR(fields.status());
  return layers;
}

LayerStorage QuantizedLayers::storage_of(const std::string& layer) const {
  switch (method_) {
    case Method::kNone:
      return LayerStorage::kPlain;
    case Method::kGptq:
      if (wanted_parts_.empty()) return LayerStorage::kNotSaid;
      return has_part(layer, wanted_parts_) ? LayerStorage::kQuantized : LayerStorage::kPlain;
    case Method::kAwq:
      if (left_out_parts_.empty()) return LayerStorage::kNotSaid;
      return has_part(layer, left_out_parts_) ? LayerStorage::kPlain : LayerStorage::kQuantized;
    case Method::kFp8:
      return has_part(layer, left_out_parts_) ? LayerStorage::kPlain : LayerStorage::kQuantized;
    case Method::kCompressedTensors:
      return compressed_storage_of(layer);
  }
  return LayerStorage::kNotSaid;
}

LayerStorage QuantizedLayers::compressed_storage_of(const std::string& layer) const {
  const std::optional<bool> is_left_out = matches_any(layer, left_out_);
  if (is_left_out == true) return LayerStorage::kPlain;
  if (!is_left_out || wanted_.empty()) return LayerStorage::kNotSaid;
  const bool are_all_wanted = matches_any("Linear", wanted_) == true;
  const std::optional<bool> is_wanted = are_all_wanted ? true : matches_any(layer, wanted_);
  if (!is_wanted) return LayerStorage::kNotSaid;
  return *is_wanted ? LayerStorage::kQuantized : LayerStorage::kPlain;
}

}  // namespace trireme::worker
