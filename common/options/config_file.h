// read_config_file: --config file.yaml as vLLM reads it: flat keys named like flags.
//
//   model: models/demo          ->  --model=models/demo
//   data-parallel-size: 2       ->  --data-parallel-size=2
//   headless: true              ->  --headless=true
//   no-enable-prefix-caching: true  ->  --no-enable-prefix-caching        (false: nothing)
//   served-model-name: [a, b]   ->  --served-model-name=a --served-model-name=b
#pragma once

#include <string>
#include <vector>

#include "common/status.h"

namespace trireme {

// The file as command-line arguments. Errors name the file and the line or key.
[[nodiscard]] StatusOr<std::vector<std::string>> read_config_file(const std::string& path);

}  // namespace trireme
