// Goal: a view and the change after it are the next view. Method: seeded random histories of views.
#include "proto/member/view_change.h"

#include <gtest/gtest.h>

#include <map>

#include "common/random.h"

namespace trireme::member {
namespace {

using Places = std::map<std::pair<wire::Role, uint32_t>, wire::Member>;

wire::View view_of(const Places& places, uint64_t epoch) {
  wire::View view{.epoch = Epoch{epoch}, .coordinator = Incarnation{9}};
  for (const auto& [id, member] : places) view.members.push_back(member);
  return view;
}

TEST(ViewChange, view_and_change_are_the_next_view) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Places places;
    wire::View before = view_of(places, 0);
    wire::View held = before;
    for (uint64_t epoch = 1; epoch < 30; ++epoch) {
      for (uint64_t i = random.below(4); i > 0; --i) {
        const auto role = static_cast<wire::Role>(1 + random.below(3));
        const auto index = static_cast<uint32_t>(random.below(6));
        places[{role, index}] = {
            .role = role, .index = index, .incarnation = Incarnation{random.below(5)}};
      }
      const wire::View after = view_of(places, epoch);
      const wire::ViewChange change = change_between(before, after);
      EXPECT_LE(change.changed.size(), 3u);
      ASSERT_TRUE(apply(change, held));
      ASSERT_EQ(held, after);
      before = after;
    }
  }
}

TEST(ViewChange, fits_only_the_view_it_was_made_from) {
  const wire::View before{.epoch = Epoch{3}, .coordinator = Incarnation{9}};
  wire::View after = before;
  after.epoch = Epoch{4};
  after.members = {{.role = wire::Role::kEngine}};
  const wire::ViewChange change = change_between(before, after);
  wire::View older = before;
  older.epoch = Epoch{2};
  wire::View of_another = before;
  of_another.coordinator = Incarnation{8};
  const wire::View untouched = of_another;
  EXPECT_FALSE(apply(change, older));
  EXPECT_FALSE(apply(change, of_another));
  EXPECT_EQ(of_another, untouched);
}

}  // namespace
}  // namespace trireme::member
