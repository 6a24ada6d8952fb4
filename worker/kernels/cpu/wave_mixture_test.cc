// Goal: a mixture whose experts are divided over the members of a wave has the bits of one device
// that has them all, with every set of kernels and every form of weights. Method: places are
// threads with a device each over one mesh; equality of bits.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <limits>
#include <semaphore>
#include <thread>
#include <vector>

#include "common/random.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint32_t kHidden = 128;
constexpr uint32_t kInner = 64;
constexpr uint32_t kExperts = 6;
constexpr Routing kRouting{.experts_per_token = 3, .renormalises = true};

struct Form {
  Element element;
  OnLoad on_load;
};
constexpr Form kForms[] = {{Element::kFloat32, OnLoad::kKeep},
                           {Element::kBfloat16, OnLoad::kKeep},
                           {Element::kBfloat16, OnLoad::kInt8},
                           {Element::kBfloat16, OnLoad::kInt4}};

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

View view_of(std::vector<float>& values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(rows == 0 ? 0 : values.size() / rows);
  return {values.data(), rows, columns, columns};
}

// One rank of a tensor-parallel group of which nothing is to be summed.
class RankOnly final : public Collective {
 public:
  RankOnly(uint32_t rank, uint32_t size) : rank_(rank), size_(size) {}
  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override { return size_; }
  [[nodiscard]] Status all_reduce_sum(std::span<float>) override { return absl::OkStatus(); }
  [[nodiscard]] Status all_gather(std::span<const float>, std::span<float>) override {
    return absl::OkStatus();
  }
  [[nodiscard]] Status barrier() override { return absl::OkStatus(); }

 private:
  uint32_t rank_;
  uint32_t size_;
};

struct SlowDisk {
  std::atomic<int> pieces_wanted{0};
  std::counting_semaphore<> pieces{0};
};

// A device that has all experts' weights; it runs them all, or those of its place in a wave.
class Layer {
 public:
  Layer(const KernelTable& kernels, const Form& form, Collective& collective,
        ExpertExchange* exchange)
      : device_(form.element, pool_, collective, kernels, form.on_load, nullptr, exchange) {
    const auto load = [&](uint32_t rows, uint32_t columns, uint64_t seed) {
      const auto values = random_values(std::size_t{rows} * columns, seed);
      return *device_.load_linear(
          {.parts = {{values.data(), Element::kFloat32, columns, rows, columns}}});
    };
    for (uint32_t i = 0; i < kExperts; ++i) {
      experts_.push_back({load(2 * kInner, kHidden, 100 + i), load(kHidden, kInner, 200 + i)});
    }
  }

  // Its experts are in no memory: each is read in two pieces.
  void put_on(SlowDisk& disk) {
    stored_ = std::exchange(experts_, {});
    for (ExpertWeights& stored : stored_) {
      experts_.emplace_back().load = [&](const OnPiece& on_piece) -> StatusOr<ExpertWeights> {
        for (int piece = 0; piece < 2; ++piece) {
          on_piece();
          ++disk.pieces_wanted;
          disk.pieces.acquire();
        }
        return std::move(stored);
      };
    }
  }

  [[nodiscard]] std::vector<float> run(uint32_t rows, uint64_t seed,
                                       std::span<const int32_t> positions = {}) {
    auto x = random_values(std::size_t{rows} * kHidden, seed);
    auto logits = random_values(std::size_t{rows} * kExperts, seed + 1);
    std::vector<float> out(x.size(), std::numeric_limits<float>::quiet_NaN());
    View from = view_of(x, rows);
    View to = view_of(out, rows);
    from.column_count = to.column_count = kHidden;
    const ForwardBatch batch{.positions = positions};
    device_.begin_step(batch, {});
    const ExpertChoices choices =
        rows == 0 ? ExpertChoices{.per_token = kRouting.experts_per_token}
                  : device_.choose_experts(kRouting, nullptr, view_of(logits, rows));
    device_.run_experts(Activation::kSilu, experts_, choices, from, to);
    const Status status = device_.end_step();
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

 private:
  ThreadPool pool_{1};
  CpuDevice device_;
  std::vector<ExpertWeights> experts_;
  std::vector<ExpertWeights> stored_;
};

[[nodiscard]] bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

class WaveMixture : public testing::TestWithParam<const KernelTable*> {};
INSTANTIATE_TEST_SUITE_P(All, WaveMixture, testing::ValuesIn(runnable_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(WaveMixture, has_the_bits_of_a_device_with_all_experts) {
  SoloCollective solo;
  for (const Form& form : kForms) {
    Layer alone(*GetParam(), form, solo, nullptr);
    std::vector<std::vector<float>> expected;
    for (uint32_t rows = 0; rows < 20; ++rows) expected.push_back(alone.run(rows, rows));
    const MeshForTest mesh(3);
    run_in_wave(mesh, 3, [&](ExpertExchange& exchange) {
      Layer mine(*GetParam(), form, solo, &exchange);
      for (uint64_t layer = 0; layer < 5; ++layer) {
        const auto rows = static_cast<uint32_t>(mix64(layer * 8 + exchange.place()) % 20);
        ASSERT_EQ(mine.run(rows, rows), expected[rows]);
      }
    });
  }
}

TEST_P(WaveMixture, whoever_waits_for_the_disk_says_so_with_each_piece_of_an_expert) {
  SoloCollective solo;
  const auto expected = Layer(*GetParam(), kForms[0], solo, nullptr).run(9, 5);
  const MeshForTest mesh(2);
  SignOfLife sign{};
  SlowDisk disk;
  std::vector<std::jthread> threads;
  for (const uint32_t place : {0U, 1U}) {
    threads.emplace_back([&, place] {
      const LifeSigns life = place == 0 ? LifeSigns(sign) : LifeSigns();
      ExpertExchange exchange(mesh.links(place), 2, life);
      ASSERT_TRUE(exchange.join(WaveId{1}, std::vector<uint32_t>{0, 1}).ok());
      Layer mine(*GetParam(), kForms[0], solo, &exchange);
      if (place == 0) mine.put_on(disk);
      life.enter(WorkerPhase::kMlp, 3);
      EXPECT_EQ(mine.run(9, 5), expected);
    });
  }
  ASSERT_TRUE(comes_true([&] { return disk.pieces_wanted == 1; }));
  const LifeSighting first = look_at(sign);
  EXPECT_EQ(first.phase, WorkerPhase::kLoadingExperts);
  EXPECT_EQ(first.layer, 3U);
  disk.pieces.release();
  ASSERT_TRUE(comes_true([&] { return disk.pieces_wanted == 2; }));
  EXPECT_EQ(look_at(sign).phase, WorkerPhase::kLoadingExperts);
  EXPECT_EQ(look_at(sign).changes, first.changes);
  EXPECT_EQ(look_at(sign).asides, first.asides + 1);
  disk.pieces.release(2 * kExperts);
  threads.clear();
  EXPECT_EQ(look_at(sign).phase, WorkerPhase::kMlp);
}

TEST_P(WaveMixture, each_row_is_on_the_rank_that_its_position_says_and_zero_on_the_others) {
  constexpr uint32_t kRows = 9;
  const std::vector<int32_t> positions = {4, 5, 6, 0, 1, 2, 7, 7, 8};
  SoloCollective solo;
  const Form form = kForms[0];
  const auto expected = Layer(*GetParam(), form, solo, nullptr).run(kRows, 5);
  const MeshForTest mesh(2);
  run_in_wave(mesh, 2, [&](ExpertExchange& exchange) {
    RankOnly rank(exchange.place(), 2);
    const auto got = Layer(*GetParam(), form, rank, &exchange).run(kRows, 5, positions);
    for (uint32_t row = 0; row < kRows; ++row) {
      const bool is_mine = static_cast<uint32_t>(positions[row]) % 2 == exchange.place();
      for (uint32_t i = row * kHidden; i < (row + 1) * kHidden; ++i) {
        ASSERT_EQ(got[i], is_mine ? expected[i] : 0.0F) << row;
      }
    }
  });
}

TEST_P(WaveMixture, a_wave_of_one_and_a_wave_that_was_left_need_nobody) {
  SoloCollective solo;
  const auto expected = Layer(*GetParam(), kForms[0], solo, nullptr).run(7, 1);
  const MeshForTest mesh(2);
  const auto exchange = mesh.exchange(1);
  Layer mine(*GetParam(), kForms[0], solo, exchange.get());
  ASSERT_TRUE(exchange->join(WaveId{1}, std::vector<uint32_t>{1}).ok());
  EXPECT_EQ(mine.run(7, 1), expected);
  ASSERT_TRUE(exchange->join(WaveId{2}, std::vector<uint32_t>{0, 1}).ok());
  mesh.abandon(1, 1, WaveId{3});
  EXPECT_EQ(mine.run(7, 1), std::vector<float>(7 * kHidden, 0.0F));
  EXPECT_TRUE(exchange->is_abandoned());
}

}  // namespace
}  // namespace trireme::worker::cpu
