#include "common/options/pooler.h"

#include <unistd.h>

#include <algorithm>
#include <string>

#include "common/options/flag_value.h"
#include "common/options/json_object.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

Status store_field(const std::string& name, const std::string& value, PoolerOptions& pooler) {
  if (name == "normalize" || name == "use_activation") {
    return flag_value::read(value, pooler.normalize.emplace());
  }
  if (name != "pooling_type" && name != "seq_pooling_type") {
    return error(kBad, "is not supported; there are pooling_type and normalize");
  }
  constexpr std::string_view kTypes[] = {"CLS", "MEAN", "LAST"};
  if (std::find(std::begin(kTypes), std::end(kTypes), value) == std::end(kTypes)) {
    return error(kBad, "'%s' is not one of CLS, MEAN, LAST", value);
  }
  pooler.pooling_type = value;
  return absl::OkStatus();
}

}  // namespace

Status read_runner(std::string_view value, Runner& runner) {
  if (value == "auto") return absl::OkStatus();
  if (value == "generate") return runner = Runner::kGenerate, absl::OkStatus();
  if (value == "pooling") return runner = Runner::kPooling, absl::OkStatus();
  return error(kBad, "'%s' is not one of auto, generate, pooling", value);
}

Status read_convert(std::string_view value, Runner& runner) {
  if (value == "auto" || value == "none") return absl::OkStatus();
  if (value == "embed") return runner = Runner::kPooling, absl::OkStatus();
  return error(kBad, "'%s' is not supported: use auto, none or embed", value);
}

Status read_pooler(std::string_view json, PoolerOptions& pooler) {
  return read_json_object(json, [&](const std::string& name, const std::string& value) {
    return store_field(name, value, pooler);
  });
}

bool serves_embeddings(const ServeOptions& options) {
  if (options.model.runner != Runner::kAuto) return options.model.runner == Runner::kPooling;
  return ::access((options.model_directory() + "/modules.json").c_str(), F_OK) == 0;
}

}  // namespace trireme
