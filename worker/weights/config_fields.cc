#include "worker/weights/config_fields.h"

#include <cmath>

#include "worker/weights/config_json.h"

namespace trireme::worker {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kCountMax = 1U << 30;

std::string refusal(const char* name, const Json& value, const std::string& wanted) {
  constexpr std::size_t kShownMax = 60;
  const std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return absl::StrFormat("%s is %s, not %s", name, shown.substr(0, kShownMax), wanted);
}

bool is_count(const Json& value, uint32_t least) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= kCountMax &&
         value.get<uint64_t>() >= least;
}

}  // namespace

bool ConfigFields::has(const char* name) const { return object_->find(name) != nullptr; }

bool ConfigFields::is_null(const char* name) const { return object_->is_null(name); }

void ConfigFields::read(const char* name, uint32_t& out, uint32_t least) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!is_count(*value, least)) {
    return fail(refusal(name, *value, absl::StrFormat("a count in [%u, %u]", least, kCountMax)));
  }
  out = value->get<uint32_t>();
}

void ConfigFields::read(const char* name, double& out) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    return fail(refusal(name, *value, "a number"));
  }
  out = value->get<double>();
}

void ConfigFields::read(const char* name, float& out) {
  auto value = static_cast<double>(out);
  read(name, value);
  out = static_cast<float>(value);
}

void ConfigFields::read(const char* name, bool& out) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return fail(refusal(name, *value, "true or false"));
  out = value->get<bool>();
}

void ConfigFields::read(const char* name, std::string& out) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return fail(refusal(name, *value, "a string"));
  out = value->get<std::string>();
}

void ConfigFields::read(const char* name, std::vector<double>& out) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return fail(refusal(name, *value, "a list of numbers"));
  for (const Json& item : *value) {
    if (!item.is_number()) return fail(refusal(name, item, "a list of numbers"));
    out.push_back(item.get<double>());
  }
}

void ConfigFields::read(const char* name, std::vector<uint32_t>& out) {
  const Json* value = object_->find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return fail(refusal(name, *value, "a list of counts"));
  for (const Json& item : *value) {
    if (!is_count(item, 0)) return fail(refusal(name, item, "a list of counts"));
    out.push_back(item.get<uint32_t>());
  }
}

void ConfigFields::fail(const std::string& what) {
  if (status_.ok()) status_ = error(StatusCode::kInvalidArgument, "%s: %s", path_, what);
}

}  // namespace trireme::worker
