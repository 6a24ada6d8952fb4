// The answer of GET /experts: rows by (layer, expert), where the experts are, and how evenly the
// workers share them, from what the engines' workers have counted (proto/expert_table.h);
// docs/top.md says what the fields are. Pure.
//
// What does not fit together (an engine may say anything) is left out. Size: a number for each
// expert of each layer, and one for each place where it is.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "proto/utility.h"

namespace trireme::api {

// By rank: replies to UtilityMethod::kExpertTables.
[[nodiscard]] std::string render_experts(const std::map<uint32_t, wire::UtilityReply>& engines);

}  // namespace trireme::api
