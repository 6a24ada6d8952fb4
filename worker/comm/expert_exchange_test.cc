// Goal: what comes out of an exchange is what one member with all experts makes, bit by bit,
// whatever the others have, in however many rounds, and wherever experts move. Method: experts that
// are a line of arithmetic, random choices, against a plain loop; places are threads over one mesh.
#include "worker/comm/expert_exchange.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <set>
#include <utility>

#include "common/random.h"
#include "worker/comm/exchange_for_test.h"
#include "worker/comm/mesh_for_test.h"

namespace trireme::worker {
namespace {

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

constexpr BalancerConfig kBalancing{.layer_count = 2,
                                    .expert_count = 9,
                                    .window_size = 4,
                                    .step_interval = 3,
                                    .redundant_count = 4};

// Experts 0 and 1 get most of them.
Rows skewed_rows(const ExpertShape& shape, uint32_t count, uint64_t seed) {
  Rows rows(shape, count, seed);
  for (uint32_t row = 0; row < count; ++row) {
    if (row % 4 == 0) continue;
    for (uint32_t k = 0; k < shape.experts_per_token; ++k) {
      rows.experts[row * shape.experts_per_token + k] = k;
    }
  }
  return rows;
}

void run_skewed_forward(ExpertExchange& exchange, uint64_t seed) {
  const ExpertShape shape{.hidden_size = 8, .expert_count = 9, .experts_per_token = 2};
  exchange.begin_forward(false);
  for (uint64_t layer = 0; layer < kBalancing.layer_count; ++layer) {
    Random random(mix64(seed * 2 + layer) ^ exchange.place());
    run_anywhere(exchange,
                 skewed_rows(shape, 20 + static_cast<uint32_t>(random.below(20)), random.next()));
  }
}

TEST(BalancedExchange, rows_become_what_one_member_makes_of_them_wherever_experts_move) {
  for (const uint32_t places : {2U, 3U, 4U}) {
    const MeshForTest mesh(places, 1024);
    std::atomic<uint64_t> moves{0};
    std::atomic<uint64_t> busiest_at_first{0};
    std::atomic<uint64_t> busiest_at_last{0};
    const auto keep_most = [](std::atomic<uint64_t>& most, uint64_t rows) {
      uint64_t known = most;
      while (known < rows && !most.compare_exchange_weak(known, rows)) {
      }
    };
    run_in_wave(mesh, places, kBalancing, [&](ExpertExchange& exchange) {
      constexpr uint64_t kForwards = 30;
      uint64_t rows_before = 0;
      for (uint64_t forward = 0; forward < kForwards; ++forward) {
        run_skewed_forward(exchange, forward);
        if (forward == 2) keep_most(busiest_at_first, exchange.load()->rows);
        if (forward == kForwards - 4) rows_before = exchange.load()->rows;
      }
      keep_most(busiest_at_last, exchange.load()->rows - rows_before);
      moves += exchange.load()->moves;
      EXPECT_GT(exchange.load()->balancedness, 0.5F);
    });
    EXPECT_GE(moves.load(), 2U) << "in each layer one of the busy experts";
    EXPECT_LT(5 * busiest_at_last.load(), 4 * busiest_at_first.load()) << places;
  }
}

TEST(BalancedExchange, what_is_not_in_memory_is_fetched_before_rows_want_it_and_one_in_a_forward) {
  const MeshForTest mesh(3, 1024);
  const std::vector<uint32_t> members = {0, 1, 2};
  const ExpertShape shape{.hidden_size = 8, .expert_count = 9, .experts_per_token = 2};
  std::atomic<uint32_t> fetches{0};
  std::vector<std::jthread> threads;
  for (const uint32_t place : members) {
    threads.emplace_back([&, place] {
      const ExpertHome own{.place_count = 3, .first_rank = place};
      const auto exchange = mesh.exchange(place);
      exchange->balance(kBalancing, own);
      ASSERT_TRUE(exchange->join(WaveId{1}, members).ok());
      std::set<std::pair<uint32_t, uint32_t>> fetched;  // Layer and expert.
      for (uint32_t forward = 0; forward < 60; ++forward) {
        const std::size_t before = fetched.size();
        exchange->begin_forward(false);
        for (uint32_t layer = 0; layer < kBalancing.layer_count; ++layer) {
          const PlainWork work =
              run_anywhere(*exchange, skewed_rows(shape, 30, mix64(forward * 8 + layer) ^ place));
          for (const uint32_t expert : work.fetched) {
            exchange->note_in_memory(expert, true);
            if (!own.has(expert, shape.expert_count)) fetched.insert({layer, expert});
          }
          for (const uint32_t expert : work.experts_run) {
            EXPECT_TRUE(own.has(expert, shape.expert_count) || fetched.contains({layer, expert}));
          }
        }
        EXPECT_LE(fetched.size(), before + kBalancing.moves_per_step);
      }
      fetches += static_cast<uint32_t>(fetched.size());
    });
  }
  threads.clear();
  EXPECT_GE(fetches.load(), 4U) << "the two busy experts of each layer";
}

TEST(BalancedExchange, a_wave_that_was_left_begins_with_an_agreement_of_who_is_there) {
  const MeshForTest mesh(3);
  std::vector<std::unique_ptr<ExpertExchange>> exchanges;
  for (uint32_t place = 0; place < 3; ++place) {
    exchanges.push_back(mesh.exchange(place));
    exchanges.back()->balance(kBalancing);
  }
  const auto run_wave = [&](uint64_t wave, const std::vector<uint32_t>& members, uint64_t count) {
    std::vector<std::jthread> threads;
    for (const uint32_t place : members) {
      threads.emplace_back([&, place] {
        ASSERT_TRUE(exchanges[place]->join(WaveId{wave}, members).ok());
        for (uint64_t forward = 0; forward < count; ++forward) {
          run_skewed_forward(*exchanges[place], wave * 100 + forward);
        }
      });
    }
  };
  run_wave(1, {0, 1, 2}, 5);
  // Place 0 alone finds out that the next one was left, while it waits for tables.
  ASSERT_TRUE(exchanges[0]->join(WaveId{2}, std::vector<uint32_t>{0, 1, 2}).ok());
  mesh.abandon(0, 1, WaveId{3});
  const Rows rows({.hidden_size = 8, .expert_count = 9, .experts_per_token = 2}, 5, 1);
  PlainWork work(rows);
  exchanges[0]->begin_forward(false);
  EXPECT_EQ(exchanges[0]->run(rows.shape_, rows_of(rows), work).code(), StatusCode::kAborted);
  EXPECT_TRUE(exchanges[0]->is_abandoned());
  run_wave(3, {0, 2}, 4);
  exchanges[1] = mesh.exchange(1);  // A new process.
  exchanges[1]->balance(kBalancing);
  run_wave(4, {0, 1, 2}, 7);
}

TEST(BalancedExchange, members_that_count_other_experts_or_at_other_times_find_out) {
  BalancerConfig more_layers = kBalancing;
  more_layers.layer_count = 3;
  BalancerConfig sooner = kBalancing;
  sooner.step_interval = 2;
  for (const BalancerConfig& other : {more_layers, sooner}) {
    const MeshForTest mesh(2);
    const std::vector<uint32_t> members = {0, 1};
    std::latch are_there(2);
    std::vector<std::jthread> threads;
    for (const uint32_t place : members) {
      threads.emplace_back([&, place] {
        const auto exchange = mesh.exchange(place);
        exchange->balance(place == 0 ? kBalancing : other);
        EXPECT_TRUE(exchange->join(WaveId{1}, members).ok());
        are_there.arrive_and_wait();
        Status status;
        for (int i = 0; i < 3 && status.ok(); ++i) {
          exchange->begin_forward(false);
          const Rows rows({.hidden_size = 8, .expert_count = 9, .experts_per_token = 2}, 5, 1);
          PlainWork work(rows);
          for (int layer = 0; layer < 2 && status.ok(); ++layer) {
            status = exchange->run(rows.shape_, rows_of(rows), work);
          }
        }
        EXPECT_EQ(status.code(), StatusCode::kDataLoss);
        EXPECT_NE(std::string(status.message()).find("counts the load of"), std::string::npos)
            << status;
      });
    }
  }
}

}  // namespace
}  // namespace trireme::worker
