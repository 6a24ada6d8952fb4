// The JSON object that is one flag's value: --speculative-config, --pooler-config.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme {

// Gives each field that is not null to `store`, whose errors get the field's name in front. What is
// no JSON object of single values is kInvalidArgument. JSON is YAML: YAML's flow form is taken too.
[[nodiscard]] Status read_json_object(
    std::string_view json,
    const std::function<Status(const std::string& name, const std::string& value)>& store);

}  // namespace trireme
