#include "proto/member/view_change.h"

#include <algorithm>
#include <utility>

namespace trireme::member {
namespace {

bool is_before(const wire::Member& a, const wire::Member& b) {
  return std::pair(a.role, a.index) < std::pair(b.role, b.index);
}

}  // namespace

wire::ViewChange change_between(const wire::View& before, const wire::View& after) {
  wire::ViewChange change{
      .base = before.epoch, .epoch = after.epoch, .coordinator = after.coordinator, .changed = {}};
  auto old = before.members.begin();
  for (const wire::Member& member : after.members) {
    old = std::lower_bound(old, before.members.end(), member, is_before);
    if (old == before.members.end() || *old != member) change.changed.push_back(member);
  }
  return change;
}

bool apply(const wire::ViewChange& change, wire::View& view) {
  if (change.base != view.epoch || change.coordinator != view.coordinator) return false;
  for (const wire::Member& member : change.changed) {
    const auto place =
        std::lower_bound(view.members.begin(), view.members.end(), member, is_before);
    if (place != view.members.end() && !is_before(member, *place)) {
      *place = member;
    } else {
      view.members.insert(place, member);
    }
  }
  view.epoch = change.epoch;
  return true;
}

}  // namespace trireme::member
