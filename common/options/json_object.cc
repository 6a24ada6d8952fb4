#include "common/options/json_object.h"

#include <yaml-cpp/yaml.h>

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

}  // namespace

Status read_json_object(
    std::string_view json,
    const std::function<Status(const std::string& name, const std::string& value)>& store) try {
  const YAML::Node root = YAML::Load(std::string(json));
  if (!root.IsMap()) return error(kBad, "'%s' is not a JSON object", json);
  for (const auto& entry : root) {
    const auto name = entry.first.as<std::string>();
    if (entry.second.IsNull()) continue;
    if (!entry.second.IsScalar()) return error(kBad, "%s is not a single value", name);
    TRIREME_RETURN_IF_ERROR(annotate(store(name, entry.second.Scalar()), name));
  }
  return absl::OkStatus();
} catch (const YAML::Exception& failure) {
  return error(kBad, "'%s' is not a JSON object: %s", json, failure.what());
}

}  // namespace trireme
