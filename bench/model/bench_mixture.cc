// bench_mixture: what a mixture of experts costs beside its products, one line of JSON a batch.
//
//   bench_mixture [[--threads] N]     default: all cores
//
// A layer of the shape of Qwen3-30B-A3B (128 experts of 768 columns, 8 a token) with random weights
// in bf16. `mixture_us`: router, choice, and each expert over the rows that chose it, gathered and
// added. `dense_us`: the same experts, as plain MLPs, over as many rows each; nothing else. The two
// take turns; medians, and that of the pairs' shares.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/micro/figure.h"
#include "common/clock.h"
#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::bench {
namespace {

using namespace worker;  // NOLINT: the bench of its parts.

constexpr uint32_t kHidden = 2048;
constexpr uint32_t kInner = 768;
constexpr uint32_t kExperts = 128;
constexpr Routing kRouting{.experts_per_token = 8, .renormalises = true};
constexpr double kSecondsEach = 3;
constexpr int kRoundsMin = 9;
enum Slot : uint32_t { kInput, kLogits, kOutput };

void fill(const View& view, uint64_t seed) {
  Random random(seed);
  for (uint32_t row = 0; row < view.row_count; ++row) {
    float* values = view.rows(row, 1).data;
    for (uint32_t i = 0; i < view.column_count; ++i) {
      values[i] = static_cast<float>(random.unit() * 2 - 1);
    }
  }
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

template <typename Body>
double microseconds(const Body& body) {
  const Instant begin = now();
  body();
  return std::chrono::duration<double, std::micro>(now() - begin).count();
}

class Layer {
 public:
  explicit Layer(ThreadPool& pool) : device_(Element::kBfloat16, pool, solo_) {
    std::vector<float> values(std::size_t{2} * kInner * kHidden);
    fill({values.data(), 1, static_cast<uint32_t>(values.size()), 0}, 1);
    const auto load = [&](uint32_t rows, uint32_t columns) {
      return device_
          .load_linear({.parts = {{values.data(), Element::kFloat32, columns, rows, columns}}})
          .value();
    };
    router_ = load(kExperts, kHidden);
    for (uint32_t i = 0; i < kExperts; ++i) {
      experts_.push_back({load(2 * kInner, kHidden), load(kHidden, kInner)});
    }
  }

  void measure(uint32_t batch) {
    const View x = device_.scratch(kInput, batch, kHidden);
    const View out = device_.scratch(kOutput, batch, kHidden);
    fill(x, batch);
    std::vector<uint32_t> rows(kExperts);
    const auto run_mixture = [&] {
      const View logits = device_.scratch(kLogits, batch, kExperts);
      device_.linear(*router_, x, logits);
      const ExpertChoices choices = device_.choose_experts(kRouting, nullptr, logits);
      device_.run_experts(Activation::kSilu, experts_, choices, x, out);
      std::ranges::fill(rows, 0);
      for (const uint32_t expert : choices.experts) ++rows[expert];
    };
    const auto run_dense = [&] {
      for (uint32_t i = 0; i < kExperts; ++i) {
        if (rows[i] == 0) continue;
        device_.feed_forward(Activation::kSilu, *experts_[i].gate_up, *experts_[i].down,
                             x.rows(0, rows[i]), out.rows(0, rows[i]));
      }
    };
    std::vector<double> mixture;
    std::vector<double> dense;
    std::vector<double> shares;
    const Instant end = now() + std::chrono::duration_cast<Instant::duration>(
                                    std::chrono::duration<double>(kSecondsEach));
    run_mixture();
    while (now() < end || shares.size() < kRoundsMin) {
      mixture.push_back(microseconds(run_mixture));
      dense.push_back(microseconds(run_dense));
      shares.push_back(dense.back() / mixture.back());
    }
    std::printf("# batch %u: %td experts, mixture %.0f us, dense %.0f us, share %.3f\n", batch,
                kExperts - std::ranges::count(rows, 0U), median(mixture), median(dense),
                median(shares));
    print_figure(("mixture.time_ratio_" + std::to_string(batch)).c_str(), 1 / median(shares), "x");
  }

 private:
  SoloCollective solo_;
  cpu::CpuDevice device_;
  std::unique_ptr<LinearWeight> router_;
  std::vector<ExpertWeights> experts_;
};

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  const std::span<const char* const> words(argv + 1, argv + argc);
  unsigned threads = std::max(std::thread::hardware_concurrency(), 1U);
  if (!words.empty()) {
    const std::string_view text = words.back();
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), threads);
    const bool is_count = code == std::errc() && end == text.data() + text.size();
    if (!is_count || threads == 0 || words.size() > 2 ||
        (words.size() == 2 && std::string_view(words[0]) != "--threads")) {
      std::fputs("usage: bench_mixture [[--threads] N]\n", stderr);
      return 2;
    }
  }
  std::vector<int> cpus(threads);
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(threads, cpus);
  trireme::bench::Layer layer(pool);
  for (const uint32_t batch : {1U, 8U, 64U, 512U}) layer.measure(batch);
  return 0;
}
