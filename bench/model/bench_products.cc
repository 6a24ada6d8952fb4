// bench_products: between the machine's limits and a model's pass, what a product loses where.
//
//   bench_products MODEL FORM [ROUNDS [CORES]]     qwen05|tl11, bf16|int8|int4; 9 rounds, all cores
//
// The model's matrices with random weights, by the products of the best kernels of this CPU. A line
// of JSON a number of rows, in gigabytes of weights a second:
//
//   read      the same cores read memory, nothing else: the limit
//   long      one product as large as all layers: its loop, without beginnings and ends
//   layers    the products of all layers and the head one after the other: the model's pattern
//   cached    a product whose weights the second-level caches hold: what multiplying alone would
//             allow, in the same unit
//
// Rounds in which each takes its turn; medians, the best in brackets. `_share`: the median of the
// rounds' own shares of `read`; `_of_tiles`, of bf16: of the fastest bf16 product there is.
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

constexpr uint32_t kRowCounts[] = {1, 8, 32, 128, 512};
constexpr uint64_t kCachedBytesPerCore = uint64_t{3} << 19;  // Of its second-level cache.
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

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

class Rates {
 public:
  // A product of bf16 of so many rows works as many operations as it reads bytes, times its rows.
  void add(double rate, const Limits& limits, uint32_t rows) {
    rates_.push_back(rate);
    shares_.push_back(rate / limits.read_gigabytes);
    tile_shares_.push_back(rate * rows / limits.gigaflops);
  }
  void print(const char* name, bool is_bf16) const {
    std::printf(", \"%s\": [%.1f, %.1f], \"%s_share\": %.3f", name, median(rates_),
                *std::ranges::max_element(rates_), name, median(shares_));
    if (is_bf16) std::printf(", \"%s_of_tiles\": %.3f", name, median(tile_shares_));
  }

 private:
  std::vector<double> rates_;
  std::vector<double> shares_;
  std::vector<double> tile_shares_;
};

void measure(const ModelShape& shape, cpu::OnLoad on_load, uint32_t rounds, ThreadPool& pool) {
  Products products(shape, on_load, pool);
  const Weights layers = products.layers();
  uint64_t bytes = 0;
  for (const auto& weight : layers) bytes += weight->bytes();
  Weights whole;
  whole.push_back(products.matrix(1024, shape.hidden));
  const uint64_t bytes_per_row = std::max<uint64_t>(whole.front()->bytes() / 1024, 1);
  Weights cached;
  const uint64_t cached_bytes = kCachedBytesPerCore * pool.thread_count();
  cached.push_back(
      products.matrix(static_cast<uint32_t>(cached_bytes / bytes_per_row), shape.hidden));
  // As large as `values_` allows, several in turn: a beginning and an end each, of a few.
  whole.clear();
  for (uint64_t have = 0; have < bytes; have += whole.back()->bytes()) {
    whole.push_back(products.matrix(shape.vocabulary, shape.hidden));
  }
  for (const uint32_t rows : kRowCounts) {
    std::vector<double> read;
    std::vector<double> tiles;
    Rates in_one;
    Rates in_layers;
    Rates from_cache;
    for (uint32_t round = 0; round < rounds; ++round) {
      const Limits limits = measure_limits(pool);
      read.push_back(limits.read_gigabytes);
      tiles.push_back(limits.gigaflops);
      in_one.add(products.rate(whole, rows), limits, rows);
      in_layers.add(products.rate(layers, rows), limits, rows);
      from_cache.add(products.rate(cached, rows, kCachedPasses), limits, rows);
    }
    const bool is_bf16 = on_load == cpu::OnLoad::kKeep;
    std::printf("{\"model\": \"%s\", \"cores\": %u, \"rows\": %u, \"read\": %.1f, \"tiles\": %.0f",
                std::string(shape.name).c_str(), pool.thread_count(), rows, median(read),
                median(tiles));
    in_one.print("long", is_bf16);
    in_layers.print("layers", is_bf16);
    from_cache.print("cached", is_bf16);
    std::printf("}\n");
    std::fflush(stdout);
  }
}

int usage() {
  std::fputs("usage: bench_products qwen05|tl11 bf16|int8|int4 [ROUNDS [CORES]]\n", stderr);
  return 2;
}

// 0: not a number.
uint32_t number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() ? value : 0;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  using namespace trireme::bench;
  using trireme::worker::cpu::OnLoad;
  if (argc < 3 || argc > 5) return usage();
  const std::string_view model = argv[1];
  const std::string_view form = argv[2];
  const uint32_t cores_there = std::max(std::thread::hardware_concurrency(), 1U);
  const uint32_t rounds = argc > 3 ? number(argv[3]) : 9;
  const uint32_t cores = argc > 4 ? number(argv[4]) : cores_there;
  const bool is_model = model == kQwen05.name || model == kTiny11.name;
  const bool is_form = form == "bf16" || form == "int8" || form == "int4";
  if (!is_model || !is_form || rounds < 1 || cores < 1 || cores > cores_there) return usage();
  std::vector<int> cpus(cores);
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(cores, cpus);
  measure(model == kQwen05.name ? kQwen05 : kTiny11,
          form == "int8"   ? OnLoad::kInt8
          : form == "int4" ? OnLoad::kInt4
                           : OnLoad::kKeep,
          rounds, pool);
  return 0;
}
