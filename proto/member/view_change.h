// Views by their differences: what the coordinator sends, so that a change costs what has changed
// and not the size of the cluster times itself. Pure.
#pragma once

#include "proto/membership.h"

namespace trireme::member {

// Both by the same coordinator; a place (role, index) once taken stays in all later views.
[[nodiscard]] wire::ViewChange change_between(const wire::View& before, const wire::View& after);

// False, and `view` untouched, when it is not the one that the change was made from.
[[nodiscard]] bool apply(const wire::ViewChange& change, wire::View& view);

}  // namespace trireme::member
