// The view in words, for the terminal. Pure.
#pragma once

#include <string>
#include <vector>

#include "proto/membership.h"

namespace trireme::member {

// "rank 2", "api-server 0", "node agent 0"
[[nodiscard]] std::string title_of(const wire::Member& member);

// What became of the engines and front ends from one view to the next, a line each:
//   rank 0: loading (pid 4711)
//   rank 0: ready (pid 4711, workers 4712 4713, 2048 blocks of 16)
//   rank 0: lost: killed by signal 9 (SIGKILL)
//   rank 0: loading (pid 4720, restart 1)
[[nodiscard]] std::vector<std::string> changes_between(const wire::View& before,
                                                       const wire::View& after);

// The member of this place, or null.
[[nodiscard]] const wire::Member* find_member(const wire::View& view, wire::Role role,
                                              uint32_t index);

}  // namespace trireme::member
