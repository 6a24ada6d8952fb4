// Tests of the delivery of StartWave, one rule per test.
#include "coordinator/wave_delivery.h"

#include <gtest/gtest.h>

namespace trireme::coordinator {
namespace {

using std::chrono::milliseconds;
using Keys = std::vector<wire::MemberKey>;

wire::MemberKey engine(uint32_t rank, uint64_t life = 1) {
  return {wire::Role::kEngine, rank, Incarnation{life}};
}

constexpr Instant kStart{std::chrono::seconds(100)};

TEST(WaveDelivery, a_start_goes_to_every_engine_at_once) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0), engine(1)});
  EXPECT_EQ(delivery.due(kStart), (Keys{engine(0), engine(1)}));
  EXPECT_EQ(delivery.message(), (wire::StartWave{.wave = WaveId{4}, .sequence = 1}));
}

TEST(WaveDelivery, it_is_repeated_to_those_who_have_not_acked) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0), engine(1)});
  ASSERT_EQ(delivery.due(kStart).size(), 2u);
  delivery.on_ack(engine(0), 1);
  EXPECT_EQ(delivery.due(kStart + milliseconds(199)), Keys{});
  EXPECT_EQ(delivery.wakeup(), kStart + milliseconds(200));
  EXPECT_EQ(delivery.due(kStart + milliseconds(200)), Keys{engine(1)});
  delivery.on_ack(engine(1), 1);
  EXPECT_EQ(delivery.wakeup(), Instant::max());
}

TEST(WaveDelivery, an_ack_of_an_older_start_does_not_count) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0)});
  ASSERT_EQ(delivery.due(kStart).size(), 1u);
  delivery.start(WaveId{5}, {engine(0)});
  delivery.on_ack(engine(0), 1);
  EXPECT_EQ(delivery.unacked(), 1u);
  EXPECT_EQ(delivery.message().sequence, 2u);
}

TEST(WaveDelivery, an_ack_of_an_older_life_does_not_count) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0, 2)});
  delivery.on_ack(engine(0, 1), 1);
  EXPECT_EQ(delivery.unacked(), 1u);
}

TEST(WaveDelivery, a_rank_that_leaves_is_no_longer_waited_for) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0), engine(1)});
  delivery.on_left(engine(1));
  EXPECT_EQ(delivery.due(kStart), Keys{engine(0)});
}

TEST(WaveDelivery, a_rank_that_joins_a_running_wave_is_told_of_it) {
  WaveDelivery delivery;
  delivery.start(WaveId{4}, {engine(0)});
  delivery.on_ack(engine(0), 1);
  delivery.on_joined(engine(1));
  EXPECT_EQ(delivery.due(kStart), Keys{engine(1)});
}

TEST(WaveDelivery, a_rank_that_joins_between_waves_is_told_nothing) {
  WaveDelivery delivery;
  delivery.on_joined(engine(0));
  EXPECT_EQ(delivery.unacked(), 0u);
  delivery.start(WaveId{4}, {engine(0)});
  delivery.complete();
  delivery.on_joined(engine(1));
  EXPECT_EQ(delivery.unacked(), 0u);
}

}  // namespace
}  // namespace trireme::coordinator
