// Tests of the delivery of StartWave, one rule per test.
#include "coordinator/wave_delivery.h"

#include <gtest/gtest.h>

namespace trireme::coordinator {
namespace {

using std::chrono::milliseconds;
using Ranks = std::vector<EngineId>;

constexpr EngineId k0{0};
constexpr EngineId k1{1};
constexpr Instant kStart{std::chrono::seconds(100)};

TEST(WaveDelivery, a_start_goes_to_every_rank_at_once) {
  WaveDelivery delivery;
  delivery.begin();
  EXPECT_EQ(delivery.due(kStart, {k0, k1}), (Ranks{k0, k1}));
}

TEST(WaveDelivery, it_is_repeated_to_those_who_are_untold) {
  WaveDelivery delivery;
  ASSERT_EQ(delivery.due(kStart, {k0, k1}).size(), 2u);
  EXPECT_EQ(delivery.due(kStart + milliseconds(199), {k1}), Ranks{});
  EXPECT_EQ(delivery.wakeup(), kStart + milliseconds(200));
  EXPECT_EQ(delivery.due(kStart + milliseconds(200), {k1}), Ranks{k1});
  EXPECT_EQ(delivery.due(kStart + milliseconds(300), {}), Ranks{});
  EXPECT_EQ(delivery.wakeup(), Instant::max());
}

TEST(WaveDelivery, who_is_to_be_told_later_is_told_at_once) {
  WaveDelivery delivery;
  ASSERT_EQ(delivery.due(kStart, {k0}), Ranks{k0});
  EXPECT_EQ(delivery.due(kStart + milliseconds(1), {k0, k1}), Ranks{k1});
}

TEST(WaveDelivery, a_new_start_replaces_the_one_before) {
  WaveDelivery delivery;
  ASSERT_EQ(delivery.due(kStart, {k0, k1}).size(), 2u);
  delivery.begin();
  EXPECT_EQ(delivery.due(kStart, {k1}), Ranks{k1});
}

}  // namespace
}  // namespace trireme::coordinator
