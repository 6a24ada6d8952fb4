#include "common/options/config_file.h"

#include <yaml-cpp/yaml.h>

#include <filesystem>

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

Status append_key(const std::string& key, const YAML::Node& value, std::vector<std::string>& out) {
  const bool is_negated = key.starts_with("no-") || key.starts_with("no_");
  if (is_negated && value.IsScalar() && (value.Scalar() == "true" || value.Scalar() == "false")) {
    if (value.Scalar() == "true") out.push_back("--" + key);
    return absl::OkStatus();
  }
  if (value.IsScalar()) {
    out.push_back("--" + key + "=" + value.Scalar());
    return absl::OkStatus();
  }
  if (value.IsNull()) return absl::OkStatus();
  if (value.IsMap()) {  // Flags that take JSON take YAML's flow form, which holds it.
    YAML::Node map = YAML::Clone(value);
    map.SetStyle(YAML::EmitterStyle::Flow);
    YAML::Emitter text;
    text << map;
    out.push_back("--" + key + "=" + text.c_str());
    return absl::OkStatus();
  }
  if (!value.IsSequence()) return error(kBad, "%s: a value or a list is expected", key);
  for (const YAML::Node& item : value) {
    if (!item.IsScalar()) return error(kBad, "%s: the list holds something that is no value", key);
    out.push_back("--" + key + "=" + item.Scalar());
  }
  return absl::OkStatus();
}

// Every process of the cluster reads it: what can be read once only is no use.
Status check_file(const std::string& path) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  if (!std::filesystem::exists(status)) {
    return error(StatusCode::kNotFound, "--config %s: cannot be read: %s", path,
                 failure ? failure.message() : "No such file or directory");
  }
  if (std::filesystem::is_directory(status)) {
    return error(kBad, "--config %s: is a directory; name the YAML file in it", path);
  }
  if (std::filesystem::is_regular_file(status)) return absl::OkStatus();
  return error(kBad, "--config %s: is not a regular file, which every process can read", path);
}

}  // namespace

StatusOr<std::vector<std::string>> read_config_file(const std::string& path) try {
  TRIREME_RETURN_IF_ERROR(check_file(path));
  const YAML::Node root = YAML::LoadFile(path);
  std::vector<std::string> arguments;
  if (root.IsNull()) return arguments;
  if (!root.IsMap()) return error(kBad, "--config %s: not a map of flags", path);
  for (const auto& entry : root) {
    TRIREME_RETURN_IF_ERROR(annotate(
        append_key(entry.first.as<std::string>(), entry.second, arguments), "--config " + path));
  }
  return arguments;
} catch (const YAML::BadFile&) {
  return error(StatusCode::kNotFound, "--config %s: cannot be read", path);
} catch (const std::exception& failure) {
  return error(kBad, "--config %s: %s", path, failure.what());
}

}  // namespace trireme
