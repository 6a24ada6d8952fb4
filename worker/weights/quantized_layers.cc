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

// As Python's re.match: from the first character on, not necessarily to the last. In time that
// grows with the name alone, whatever a checkpoint's expression is. Nothing where it is none that
// can be read: RE2 knows all but what looks ahead or back.
std::optional<bool> matches_expression(const std::string& layer, std::string_view expression) {
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 read(re2::StringPiece(expression.data(), expression.size()), options);
  if (!read.ok()) return std::nullopt;
  return read.Match(layer, 0, layer.size(), RE2::ANCHOR_START, nullptr, 0);
}

std::optional<bool> matches(const std::string& layer, std::string_view pattern) {
  if (!pattern.starts_with(kExpressionPrefix)) return layer == pattern;
  return matches_expression(layer, pattern.substr(kExpressionPrefix.size()));
}

// Nothing where none matches and one could not be read.
std::optional<bool> matches_any(const std::string& layer, const std::vector<std::string>& names) {
  std::optional<bool> found = false;
  for (const std::string& name : names) {
    const std::optional<bool> matched = matches(layer, name);
    if (matched == true) return true;
    if (!matched) found.reset();
  }
  return found;
}

bool has_part(const std::string& layer, const std::vector<std::string>& parts) {
  return std::ranges::any_of(
      parts, [&](const std::string& part) { return layer.find(part) != std::string::npos; });
}

}  // namespace

StatusOr<QuantizedLayers> QuantizedLayers::read(ConfigFields fields, Method method) {
  QuantizedLayers layers;
  layers.method_ = method;
  switch (method) {
    case Method::kNone:
      break;
    case Method::kGptq:
      layers.wanted_ = read_names(fields, "modules_in_block_to_quantize");
      break;
    case Method::kFp8:
      layers.left_out_ = read_names(fields, "ignored_layers");
      [[fallthrough]];
    case Method::kAwq:
      for (std::string& name : read_names(fields, "modules_to_not_convert")) {
        layers.left_out_.push_back(std::move(name));
      }
      break;
    case Method::kCompressedTensors:
      layers.left_out_ = read_names(fields, "ignore");
      TRIREME_ASSIGN_OR_RETURN(layers.wanted_, read_targets(fields));
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
      if (wanted_.empty()) return LayerStorage::kNotSaid;
      return has_part(layer, wanted_) ? LayerStorage::kQuantized : LayerStorage::kPlain;
    case Method::kAwq:
      if (left_out_.empty()) return LayerStorage::kNotSaid;
      return has_part(layer, left_out_) ? LayerStorage::kPlain : LayerStorage::kQuantized;
    case Method::kFp8:
      return has_part(layer, left_out_) ? LayerStorage::kPlain : LayerStorage::kQuantized;
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
