// Goal: what comes out of an exchange is what one member with all experts makes, bit by bit,
// whatever the others have and in however many rounds. Method: experts that are a line of
// arithmetic, random choices, against a plain loop; places are threads over one mesh.
#include "worker/comm/expert_exchange.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "common/random.h"
#include "worker/comm/exchange_for_test.h"
#include "worker/comm/mesh_for_test.h"

namespace trireme::worker {
namespace {

TEST(ExpertPlacement, parts_are_neighbours_and_nearly_equal) {
  for (const uint32_t experts : {1U, 7U, 8U, 60U, 256U}) {
    for (const uint32_t members : {1U, 2U, 3U, 8U, 13U}) {
      std::vector<uint32_t> all(members);
      std::iota(all.begin(), all.end(), 0U);
      const ExpertPlacement placement(experts, all, members);
      std::vector<uint32_t> counts(members);
      uint32_t last = 0;
      for (uint32_t expert = 0; expert < experts; ++expert) {
        const uint32_t member = placement.member_for(expert, 0);
        ASSERT_LT(member, members);
        EXPECT_GE(member, last);
        EXPECT_TRUE(placement.is_at(expert, member));
        last = member;
        ++counts[member];
      }
      const auto [least, most] = std::ranges::minmax(counts);
      EXPECT_LE(most - least, 1U) << experts << " over " << members;
      EXPECT_FALSE(placement.is_at(experts, members - 1));
    }
  }
}

TEST(ExpertPlacement, the_loss_of_a_place_moves_its_own_experts_alone_in_equal_parts) {
  const std::vector<uint32_t> all = {0, 1, 2, 3};
  const std::vector<uint32_t> left = {0, 1, 3};
  const ExpertPlacement before(64, all, 4);
  const ExpertPlacement after(64, left, 4);
  std::vector<uint32_t> taken_over(3);
  for (uint32_t expert = 0; expert < 64; ++expert) {
    const uint32_t now = after.member_for(expert, 0);
    if (before.member_for(expert, 0) == 2) {
      ++taken_over[now];
    } else {
      EXPECT_EQ(left[now], all[before.member_for(expert, 0)]);
    }
  }
  EXPECT_EQ(taken_over, (std::vector<uint32_t>{6, 5, 5}));
}

TEST(ExpertHome, the_nodes_of_a_cluster_have_every_expert_once_for_each_place_in_the_model) {
  constexpr uint32_t kTp = 2;
  constexpr uint32_t kRanks = 4;
  for (uint32_t expert = 0; expert < 30; ++expert) {
    uint32_t holders = 0;
    for (const uint32_t first : {0U, 1U, 2U}) {  // Nodes of one, one and two ranks.
      for (uint32_t tp_rank = 0; tp_rank < kTp; ++tp_rank) {
        const ExpertHome home{.place_count = kTp * kRanks,
                              .tp_size = kTp,
                              .tp_rank = tp_rank,
                              .first_rank = first,
                              .rank_count = first == 2 ? 2U : 1U};
        holders += home.has(expert, 30) ? 1 : 0;
      }
    }
    EXPECT_EQ(holders, 1U) << expert;
  }
  EXPECT_TRUE(ExpertHome().has(29, 30)) << "who divides with nobody has all";
}

TEST(ExpertExchange, random_rows_become_what_one_member_makes_of_them) {
  for (const uint32_t places : {2U, 3U, 4U}) {
    const MeshForTest mesh(places, 1024);
    run_in_wave(mesh, places, [&](ExpertExchange& exchange) {
      for (uint64_t layer = 0; layer < 40; ++layer) {
        const ExpertShape shape{.hidden_size = 24,
                                .expert_count = layer % 2 == 0 ? 9U : 3U,
                                .experts_per_token = layer % 2 == 0 ? 4U : 1U};
        Random random(mix64(layer) ^ exchange.place());
        const uint32_t count = static_cast<uint32_t>(random.below(4) * random.below(30));
        EXPECT_EQ(run_and_check(exchange, {shape, count, random.next()}), 1U);
      }
    });
  }
}

TEST(ExpertExchange, a_member_without_rows_computes_for_the_others) {
  const MeshForTest mesh(3);
  const ExpertShape shape{.hidden_size = 8, .expert_count = 6, .experts_per_token = 2};
  run_in_wave(mesh, 3, [&](ExpertExchange& exchange) {
    for (uint32_t with_rows = 0; with_rows < 3; ++with_rows) {
      run_and_check(exchange, {shape, exchange.place() == with_rows ? 40U : 0U, with_rows});
    }
    run_and_check(exchange, {shape, 0, 0});
  });
}

TEST(ExpertExchange, all_rows_may_go_to_one_expert) {
  const MeshForTest mesh(4, 256);
  const ExpertShape shape{.hidden_size = 16, .expert_count = 8, .experts_per_token = 1};
  run_in_wave(mesh, 4, [&](ExpertExchange& exchange) {
    for (uint32_t expert = 0; expert < 8; ++expert) {
      Rows rows(shape, 60 + exchange.place(), 3);
      std::ranges::fill(rows.experts, expert);
      run_and_check(exchange, rows);
    }
  });
}

TEST(ExpertExchange, more_members_than_experts_leave_some_idle) {
  const MeshForTest mesh(4);
  const ExpertShape shape{.hidden_size = 4, .expert_count = 3, .experts_per_token = 2};
  run_in_wave(mesh, 4, [&](ExpertExchange& exchange) {
    run_and_check(exchange, {shape, 10, exchange.place()});
  });
}

TEST(ExpertExchange, rows_that_others_answer_for_are_left_alone) {
  const MeshForTest mesh(2);
  const ExpertShape shape{.hidden_size = 8, .expert_count = 4, .experts_per_token = 2};
  run_in_wave(mesh, 2, [&](ExpertExchange& exchange) {
    Rows rows(shape, 30, 4);  // The same at both, as on ranks of one tensor-parallel group.
    std::erase_if(rows.sent, [&](uint32_t row) { return row % 2 != exchange.place(); });
    run_and_check(exchange, rows);
  });
}

TEST(ExpertExchange, rows_of_a_round_are_bounded_by_number_and_bytes) {
  const auto rows = [](uint32_t hidden_size, uint32_t members) {
    const ExpertShape shape{
        .hidden_size = hidden_size, .expert_count = 256, .experts_per_token = 8};
    return ExpertExchange::rows_per_round(shape, members);
  };
  EXPECT_EQ(rows(2048, 2), ExpertExchange::kRowsMax);
  EXPECT_EQ(rows(7168, 16), 65U);
  EXPECT_EQ(rows(7168, 1024), ExpertExchange::kRowsMin);
  const ExpertShape shape{.hidden_size = 7168, .expert_count = 256, .experts_per_token = 8};
  EXPECT_LT(ExpertExchange::buffer_bytes(shape, 16, 4096), ExpertExchange::kRoundBytesMax * 5 / 4);
  EXPECT_EQ(ExpertExchange::buffer_bytes(shape, 2, 1), uint64_t{4} * 7168 * (2 * 9 + 8 + 1));
}

TEST(ExpertExchange, the_member_with_the_most_rows_says_how_many_rounds_there_are) {
  const MeshForTest mesh(2, 64 * 1024);
  const ExpertShape shape{.hidden_size = 2, .expert_count = 4, .experts_per_token = 3};
  const uint32_t most = ExpertExchange::rows_per_round(shape, 2);
  run_in_wave(mesh, 2, [&](ExpertExchange& exchange) {
    const bool is_first = exchange.place() == 0;
    EXPECT_EQ(run_and_check(exchange, {shape, is_first ? most + 1 : 3, 1}), 2U);
    EXPECT_EQ(run_and_check(exchange, {shape, is_first ? 0 : 3 * most, 2}), 3U);
    EXPECT_EQ(run_and_check(exchange, {shape, most, 3}), 1U);
  });
}

TEST(ExpertExchange, everybody_hears_who_has_more_forwards) {
  const MeshForTest mesh(3);
  const ExpertShape shape{.hidden_size = 4, .expert_count = 4, .experts_per_token = 1};
  run_in_wave(mesh, 3, [&](ExpertExchange& exchange) {
    // Place 0 has one, place 1 four, place 2 none: all run four, of two layers each.
    const uint32_t own = exchange.place() == 1 ? 4 : exchange.place() == 0 ? 1 : 0;
    uint32_t forwards = 0;
    do {
      exchange.begin_forward(++forwards < own);
      run_and_check(exchange, {shape, forwards <= own ? 5U : 0U, forwards});
      run_and_check(exchange, {shape, forwards <= own ? 5U : 0U, forwards + 9});
    } while (forwards < own || exchange.others_have_more());
    EXPECT_EQ(forwards, 4U);
  });
}

TEST(ExpertExchange, after_it_was_left_a_forward_goes_on_without_it) {
  const MeshForTest mesh(2);
  const std::vector<uint32_t> members = {0, 1};
  const ExpertShape shape{.hidden_size = 4, .expert_count = 4, .experts_per_token = 2};
  const auto alone = mesh.exchange(0);
  ASSERT_TRUE(alone->join(WaveId{1}, members).ok());
  mesh.abandon(0, 1, WaveId{2});
  const Rows rows(shape, 5, 1);
  PlainWork work(rows);
  alone->begin_forward(false);
  EXPECT_EQ(alone->run(shape, rows_of(rows), work).code(), StatusCode::kAborted);
  EXPECT_TRUE(alone->is_abandoned());
  EXPECT_EQ(alone->run(shape, rows_of(rows), work).code(), StatusCode::kAborted);
  EXPECT_EQ(work.rounds, 0U);
  ASSERT_TRUE(alone->join(WaveId{2}, members).ok());
  EXPECT_FALSE(alone->is_abandoned());
  std::jthread other([&] {
    const auto exchange = mesh.exchange(1);
    ASSERT_TRUE(exchange->join(WaveId{2}, members).ok());
    run_and_check(*exchange, {shape, 7, 2});
  });
  run_and_check(*alone, rows);
}

// Links that bring a header of another exchange.
class ForgedLinks final : public ExpertLinks {
 public:
  explicit ForgedLinks(uint64_t exchange) : exchange_(exchange) {}
  [[nodiscard]] uint32_t place() const override { return 0; }
  [[nodiscard]] uint32_t rank() const override { return 0; }
  [[nodiscard]] uint32_t size() const override { return 2; }
  [[nodiscard]] Status transfer(std::span<const OutgoingPieces>,
                                IncomingPieces& incoming) override {
    TRIREME_ASSIGN_OR_RETURN(const std::span<std::byte> header, incoming.next_piece(1));
    std::ranges::fill(header, std::byte{0});
    header[0] = static_cast<std::byte>(exchange_);
    while (true) {
      TRIREME_ASSIGN_OR_RETURN(const std::span<std::byte> piece, incoming.next_piece(1));
      if (piece.empty()) return absl::OkStatus();
    }
  }

 private:
  [[nodiscard]] Status enter_wave(WaveId, std::span<const uint32_t>,
                                  std::span<const std::string>) override {
    return absl::OkStatus();
  }
  uint64_t exchange_;
};

TEST(ExpertExchange, a_member_that_is_elsewhere_in_the_model_is_an_error) {
  ExpertExchange exchange(std::make_unique<ForgedLinks>(3), 2, LifeSigns());
  ASSERT_TRUE(exchange.join(WaveId{1}, std::array<uint32_t, 2>{0, 1}).ok());
  const Rows rows({.hidden_size = 4, .expert_count = 2, .experts_per_token = 1}, 0, 1);
  PlainWork work(rows);
  const Status status = exchange.run(rows.shape_, rows_of(rows), work);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(std::string(status.message()).find("member 1 is at its exchange 3, place 0 at 1"),
            std::string::npos)
      << status;
  EXPECT_FALSE(exchange.is_abandoned());
}

}  // namespace
}  // namespace trireme::worker
