#include "worker/kernels/cpu/taken_experts.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace trireme::worker::cpu {
namespace {

constexpr uint64_t kMoreThanThereIs = std::numeric_limits<uint64_t>::max() - 1;

class TakenExpertsTest : public testing::Test {
 protected:
  TakenExpertsTest() {
    for (ExpertWeights& expert : layer_) {
      expert.load = [this](const OnPiece&) -> StatusOr<ExpertWeights> {
        ++loads_;
        if (refusals_ > 0 && refusals_-- > 0) return error(StatusCode::kResourceExhausted, "full");
        return ExpertWeights();
      };
    }
  }
  [[nodiscard]] Status find(uint32_t expert) {
    return taken_
        .find(
            layer_[expert], [this] { return reserve_; }, [this] { ++pieces_; })
        .status();
  }

  std::array<ExpertWeights, 3> layer_;
  TakenExperts taken_;
  uint64_t reserve_ = 0;
  int loads_ = 0;
  int pieces_ = 0;
  int refusals_ = 0;
};

TEST_F(TakenExpertsTest, are_loaded_once_and_kept_until_they_are_not_wanted) {
  for (const uint32_t expert : {0U, 2U, 0U, 2U}) EXPECT_TRUE(find(expert).ok());
  EXPECT_EQ(loads_, 2);
  EXPECT_EQ(pieces_, 2) << "a sign of life for each that is loaded";
  EXPECT_FALSE(taken_.forget_unless(layer_, [](uint32_t) { return true; }));
  EXPECT_TRUE(taken_.forget_unless(layer_, [](uint32_t expert) { return expert == 2; }));
  for (const uint32_t expert : {2U, 0U}) EXPECT_TRUE(find(expert).ok());
  EXPECT_EQ(loads_, 3);
  const std::array<ExpertWeights, 3> other;
  EXPECT_FALSE(taken_.forget_unless(other, [](uint32_t) { return false; }));
}

TEST_F(TakenExpertsTest, are_not_kept_where_memory_is_promised_to_others) {
  reserve_ = kMoreThanThereIs;
  for (const uint32_t expert : {0U, 0U, 1U}) EXPECT_TRUE(find(expert).ok());
  EXPECT_EQ(loads_, 3);
  EXPECT_TRUE(taken_.empty());
}

TEST_F(TakenExpertsTest, make_room_for_the_one_that_is_wanted_now) {
  EXPECT_TRUE(find(0).ok());
  refusals_ = 1;
  EXPECT_EQ(taken_.clear_count(), 0U);
  EXPECT_TRUE(find(1).ok());
  EXPECT_EQ(loads_, 3);
  EXPECT_EQ(taken_.clear_count(), 1U);
  refusals_ = 2;
  EXPECT_EQ(find(2).code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace trireme::worker::cpu
