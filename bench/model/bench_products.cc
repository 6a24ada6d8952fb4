// bench_products: between plain reading and a model's pass, what a product of few rows loses where.
//
//   bench_products MODEL FORM [ROUNDS]     qwen05|tl11, bf16|int8|int4, default 9 rounds
//
// The model's matrices with random weights, by the products of the best kernels of this CPU on all
// its cores. A line of JSON a number of rows; all but `cached` in gigabytes of weights a second:
//
//   read      the same cores read memory, nothing else: the limit
//   long      one product as large as all layers: its loop, without beginnings and ends
//   layers    the products of all layers and the head one after the other: the model's pattern
//   cached    a product whose weights the second-level caches hold: what multiplying alone would
//             allow, in the same unit
//
// Rounds in which each takes its turn; medians, the best in brackets. `_share`: the median of the
// rounds' own shares of `read`.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/model/limits.h"
#include "bench/model/random_model.h"
#include "common/clock.h"
#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::bench {
namespace {

using namespace worker;  // NOLINT: the bench of its parts.

constexpr uint32_t kRowCounts[] = {1, 8, 32};
constexpr uint64_t kCachedBytes = uint64_t{3} << 20;  // Of two or more second-level caches.
constexpr int kCachedPasses = 64;
enum Slot : uint32_t { kInput, kOutput };

using Weights = std::vector<std::unique_ptr<LinearWeight>>;

class Products {
 public:
  Products(const ModelShape& shape, cpu::OnLoad on_load, ThreadPool& pool)
      : shape_(shape), device_(Element::kBfloat16, pool, solo_, cpu::best_kernels(), on_load) {
    Random random(1);
    values_.resize(std::size_t{shape.vocabulary} * shape.hidden);
    for (uint16_t& value : values_) {
      // 0.5 to 1 with either sign.
      value = static_cast<uint16_t>(0x3f00 | (random.next() & 0x807f));
    }
  }

  [[nodiscard]] std::unique_ptr<LinearWeight> matrix(uint32_t rows, uint32_t columns,
                                                     Narrowest narrowest = Narrowest::kInt4) {
    const MatrixSlice slice{values_.data(), Element::kBfloat16, columns, rows, columns};
    return std::move(device_.load_linear({.parts = {slice}, .narrowest = narrowest})).value();
  }

  [[nodiscard]] Weights layers() {
    Weights weights;
    const uint32_t kv = shape_.kv_heads * shape_.head_size();
    for (uint32_t layer = 0; layer < shape_.layers; ++layer) {
      weights.push_back(matrix(shape_.hidden + 2 * kv, shape_.hidden));
      weights.push_back(matrix(shape_.hidden, shape_.hidden));
      weights.push_back(matrix(2 * shape_.intermediate, shape_.hidden));
      weights.push_back(matrix(shape_.hidden, shape_.intermediate));
    }
    weights.push_back(matrix(shape_.vocabulary, shape_.hidden, Narrowest::kInt8));
    return weights;
  }

  // Gigabytes of weights a second.
  [[nodiscard]] double rate(const Weights& weights, uint32_t rows, int passes = 1) {
    uint64_t bytes = 0;
    const Instant begin = now();
    for (int pass = 0; pass < passes; ++pass) {
      for (const auto& weight : weights) {
        const View x = device_.scratch(kInput, rows, weight->in_features());
        device_.linear(*weight, x, device_.scratch(kOutput, rows, weight->out_features()));
        bytes += weight->bytes();
      }
    }
    return static_cast<double>(bytes) / std::chrono::duration<double>(now() - begin).count() / 1e9;
  }

 private:
  ModelShape shape_;
  SoloCollective solo_;
  cpu::CpuDevice device_;
  std::vector<uint16_t> values_;
};

class Rates {
 public:
  void add(double rate, double limit) {
    rates_.push_back(rate);
    shares_.push_back(rate / limit);
  }
  void print(const char* name) const {
    std::printf(", \"%s\": [%.1f, %.1f], \"%s_share\": %.3f", name, median(rates_),
                *std::ranges::max_element(rates_), name, median(shares_));
  }

 private:
  static double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
  }

  std::vector<double> rates_;
  std::vector<double> shares_;
};

void measure(const ModelShape& shape, cpu::OnLoad on_load, int rounds, ThreadPool& pool) {
  Products products(shape, on_load, pool);
  const Weights layers = products.layers();
  uint64_t bytes = 0;
  for (const auto& weight : layers) bytes += weight->bytes();
  Weights whole;
  whole.push_back(products.matrix(1024, shape.hidden));
  const uint64_t bytes_per_row = std::max<uint64_t>(whole.front()->bytes() / 1024, 1);
  Weights cached;
  cached.push_back(
      products.matrix(static_cast<uint32_t>(kCachedBytes / bytes_per_row), shape.hidden));
  // As large as `values_` allows, several in turn: a beginning and an end each, of a few.
  whole.clear();
  for (uint64_t have = 0; have < bytes; have += whole.back()->bytes()) {
    whole.push_back(products.matrix(shape.vocabulary, shape.hidden));
  }
  for (const uint32_t rows : kRowCounts) {
    Rates read;
    Rates in_one;
    Rates in_layers;
    Rates from_cache;
    for (int round = 0; round < rounds; ++round) {
      const double limit = measure_limits(pool).read_gigabytes;
      read.add(limit, limit);
      in_one.add(products.rate(whole, rows), limit);
      in_layers.add(products.rate(layers, rows), limit);
      from_cache.add(products.rate(cached, rows, kCachedPasses), limit);
    }
    std::printf("{\"model\": \"%s\", \"rows\": %u", std::string(shape.name).c_str(), rows);
    read.print("read");
    in_one.print("long");
    in_layers.print("layers");
    from_cache.print("cached");
    std::printf("}\n");
    std::fflush(stdout);
  }
}

int usage() {
  std::fputs("usage: bench_products qwen05|tl11 bf16|int8|int4 [ROUNDS]\n", stderr);
  return 2;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  using namespace trireme::bench;
  using trireme::worker::cpu::OnLoad;
  if (argc < 3 || argc > 4) return usage();
  const std::string_view model = argv[1];
  const std::string_view form = argv[2];
  const std::string_view count = argc == 4 ? argv[3] : "9";
  int rounds = 0;
  const auto [end, code] = std::from_chars(count.data(), count.data() + count.size(), rounds);
  const bool is_model = model == kQwen05.name || model == kTiny11.name;
  const bool is_form = form == "bf16" || form == "int8" || form == "int4";
  if (!is_model || !is_form || code != std::errc() || rounds < 1) return usage();
  std::vector<int> cpus(std::max(std::thread::hardware_concurrency(), 1U));
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(static_cast<uint32_t>(cpus.size()), cpus);
  measure(model == kQwen05.name ? kQwen05 : kTiny11,
          form == "int8"   ? OnLoad::kInt8
          : form == "int4" ? OnLoad::kInt4
                           : OnLoad::kKeep,
          rounds, pool);
  return 0;
}
