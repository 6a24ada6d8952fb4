// What it costs to divide a mixture's experts over members of a wave, in the shape of
// Qwen3-30B-A3B: 128 experts of 768 columns, 8 a token, 2,048 hidden columns.
//
//   exchange  one layer's dispatch and combine with experts that do nothing, by members and rows of
//             each: what goes through shared memory, and the waits. nodes_2: two members, each on
//             a node of its own, over loopback TCP without encryption; nodes_2_curve: with
//   layer     tokens a second through one mixture layer in bf16: one member with all cores, and two
//             with half of them and half of the rows each; random choices
//   balance   the same layer by two members where the k-th expert is wanted as often as 1 / k:
//             rows of the busiest member over all rows, and the time of a layer, where experts are
//             in equal parts, and once they are placed by load with 16 redundant ones. agree: what
//             the forward in which 58 layers of 256 experts are placed takes beyond the others
//
// Members are threads of this process. Medians.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "bench/micro/figure.h"
#include "common/random.h"
#include "worker/comm/expert_exchange.h"
#include "worker/comm/shm_mesh.h"
#include "worker/comm/spanned_links.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::bench {
namespace {

using namespace worker;  // NOLINT: the bench of its parts.

constexpr uint32_t kHidden = 2048;
constexpr uint32_t kInner = 768;
constexpr uint32_t kExperts = 128;
constexpr uint32_t kEach = 8;
constexpr ExpertShape kShape{
    .hidden_size = kHidden, .expert_count = kExperts, .experts_per_token = kEach};

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

std::vector<uint32_t> first_places(uint32_t count) {
  std::vector<uint32_t> places(count);
  std::iota(places.begin(), places.end(), 0U);
  return places;
}

// As many threads, each in a wave with the others.
void run_members(uint32_t count, const std::function<void(ExpertExchange&)>& body) {
  const auto memory =
      std::make_shared<const shm::Mapping>(*ShmMesh::create_memory({.place_count = count}));
  const std::vector<uint32_t> members = first_places(count);
  std::vector<std::jthread> threads;
  for (const uint32_t place : members) {
    threads.emplace_back([&, place] {
      auto links = ShmMesh::attach(memory, {.place = place, .limit = std::chrono::seconds(60)});
      ExpertExchange exchange(*std::move(links), count, LifeSigns());
      if (!exchange.join(WaveId{1}, members).ok()) std::abort();
      body(exchange);
    });
  }
}

// Two threads, each on a node of its own.
void run_nodes(const zmq::ContextOptions& options,
               const std::function<void(ExpertExchange&)>& body) {
  const std::vector<uint32_t> members = {0, 1};
  std::vector<std::unique_ptr<zmq::Context>> contexts;
  std::vector<std::unique_ptr<SpannedLinks>> links;
  std::vector<std::string> addresses;
  for (const uint32_t place : members) {
    contexts.push_back(*zmq::Context::create(options));
    const auto memory = std::make_shared<const shm::Mapping>(
        *ShmMesh::create_memory({.first_place = place, .place_count = 1}));
    const Duration limit = std::chrono::seconds(60);
    links.push_back(
        std::make_unique<SpannedLinks>(*ShmMesh::attach(memory, {.place = place, .limit = limit}),
                                       *RemoteMesh::listen(*contexts.back(), "tcp://127.0.0.1:0",
                                                           {.place = place, .limit = limit})));
    addresses.push_back(links.back()->address());
  }
  std::vector<std::unique_ptr<ExpertExchange>> exchanges;
  for (auto& of_place : links) {
    exchanges.push_back(std::make_unique<ExpertExchange>(std::move(of_place), 2, LifeSigns()));
  }
  std::vector<std::jthread> threads;
  for (const uint32_t place : members) {
    threads.emplace_back([&, place] {
      std::vector<std::string> others = addresses;
      others[place].clear();
      if (!exchanges[place]->join(WaveId{1}, members, others).ok()) std::abort();
      body(*exchanges[place]);
    });
  }
  for (std::jthread& thread : threads) thread.join();
}

class NoWork final : public ExpertWork {
 public:
  [[nodiscard]] Status compute(uint32_t, const float*, std::span<const uint32_t>, float*,
                               std::span<const uint32_t>) override {
    return absl::OkStatus();
  }
  void combine(std::span<const uint32_t>, const float*, std::span<const uint32_t>) override {}
};

using RunMembers = std::function<void(const std::function<void(ExpertExchange&)>&)>;

void measure_exchange(const std::string& name, const RunMembers& run, uint32_t rows) {
  std::vector<Duration> times;
  run([&](ExpertExchange& exchange) {
    Random random(exchange.place());
    const auto values = random_values(std::size_t{rows} * kHidden, 1);
    const std::vector<uint32_t> sent = first_places(rows);
    std::vector<uint32_t> experts;
    for (uint32_t i = 0; i < rows * kEach; ++i) {
      const uint32_t part = kExperts / kEach;  // Ascending, and each once.
      experts.push_back(i % kEach * part + static_cast<uint32_t>(random.below(part)));
    }
    NoWork work;
    const int rounds = rows > 64 ? 50 : rows > 8 ? 200 : 2000;
    for (int i = 0; i < rounds; ++i) {
      const Instant begin = now();
      const Status status = exchange.run(
          kShape,
          {.values = values.data(), .row_stride = kHidden, .rows = sent, .experts = experts}, work);
      if (!status.ok()) std::abort();
      if (exchange.place() == 0) times.push_back(now() - begin);
    }
  });
  const std::string figure = absl::StrFormat("exchange.%s_rows_%u_us", name, rows);
  print_figure(figure.c_str(), microseconds(percentile(times, 0.5)), "us");
}

// Own rows through random experts of 256, in 58 layers a forward, of which every fifth agrees.
void measure_agreement(uint32_t members) {
  constexpr uint32_t kLayers = 58;
  constexpr uint32_t kAll = 256;
  constexpr int kInterval = 5;
  std::vector<Duration> agreeing;
  std::vector<Duration> others;
  run_members(members, [&](ExpertExchange& exchange) {
    exchange.balance({.layer_count = kLayers,
                      .expert_count = kAll,
                      .step_interval = kInterval,
                      .redundant_count = 32});
    Random random(exchange.place());
    const std::vector<uint32_t> members_of_wave = first_places(members);
    if (!exchange.join(WaveId{2}, members_of_wave).ok()) std::abort();
    const ExpertShape shape{.hidden_size = 8, .expert_count = kAll, .experts_per_token = kEach};
    const auto values = random_values(std::size_t{8} * shape.hidden_size, 1);
    const std::vector<uint32_t> rows = first_places(8);
    NoWork work;
    for (int forward = 0; forward < 40 * kInterval; ++forward) {
      std::vector<uint32_t> experts;
      for (uint32_t i = 0; i < 8 * kEach; ++i) {
        experts.push_back(i % kEach * 32 + static_cast<uint32_t>(random.below(32)));
      }
      exchange.begin_forward(false);
      const Instant begin = now();
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        const Status status = exchange.run(
            shape, {.values = values.data(), .row_stride = 8, .rows = rows, .experts = experts},
            work);
        if (!status.ok()) std::abort();
      }
      if (exchange.place() != 0) continue;
      (forward % kInterval == 0 ? agreeing : others).push_back(now() - begin);
    }
  });
  for (const auto& [name, part] : {std::pair("", 0.5), std::pair("_worst", 1.0)}) {
    const Duration spent = percentile(agreeing, part) - percentile(others, 0.5);
    const std::string figure = absl::StrFormat("balance.agree_members_%u%s_us", members, name);
    print_figure(figure.c_str(), microseconds(spent), "us");
  }
}

constexpr std::array kRows = {1U, 8U, 64U, 512U};

void measure_members(uint32_t members) {
  const auto run = [&](const auto& body) { run_members(members, body); };
  for (const uint32_t rows : kRows) {
    measure_exchange(absl::StrFormat("members_%u", members), run, rows);
  }
}

void measure_nodes(const std::string& name, const zmq::ContextOptions& options) {
  const auto run = [&](const auto& body) { run_nodes(options, body); };
  for (const uint32_t rows : kRows) measure_exchange(name, run, rows);
}

class Layer {
 public:
  Layer() : device_(Element::kBfloat16, pool_, solo_) {
    const auto values = random_values(std::size_t{2} * kInner * kHidden, 1);
    const auto load = [&](uint32_t rows, uint32_t columns) {
      return *device_.load_linear(
          {.parts = {{values.data(), Element::kFloat32, columns, rows, columns}}});
    };
    for (uint32_t i = 0; i < kExperts; ++i) {
      experts_.push_back({load(2 * kInner, kHidden), load(kHidden, kInner)});
    }
  }

  void measure(uint32_t rows, unsigned threads) const {
    std::vector<Duration> alone;
    run_layer(rows, threads, nullptr, 0, alone);
    std::vector<Duration> divided;
    run_members(2, [&](ExpertExchange& exchange) {
      std::vector<Duration> times;
      run_layer(rows / 2, threads / 2, &exchange, exchange.place(), times);
      if (exchange.place() == 0) divided = std::move(times);
    });
    for (const auto& [times, members] : {std::pair(alone, 1), std::pair(divided, 2)}) {
      const std::string name = absl::StrFormat("layer.rows_%u_members_%d_tokens_s", rows, members);
      print_figure(name.c_str(), rows * 1e6 / microseconds(percentile(times, 0.5)), "1/s");
    }
  }

  // Each of two members with half of the threads and of the rows.
  void measure_balance(uint32_t rows, unsigned threads) const {
    std::array<Skewed, 2> found;
    run_members(2, [&](ExpertExchange& exchange) {
      exchange.balance({.layer_count = 1,
                        .expert_count = kExperts,
                        .window_size = kSkewedForwards,
                        .step_interval = kSkewedForwards,
                        .redundant_count = 16});
      if (!exchange.join(WaveId{2}, first_places(2)).ok()) std::abort();
      found[exchange.place()] = run_skewed(rows / 2, threads / 2, exchange);
    });
    for (const auto& [name, half] : {std::pair("parts", 0U), std::pair("placed", 1U)}) {
      const auto busiest = std::max(found[0].rows[half], found[1].rows[half]);
      const auto all = found[0].rows[half] + found[1].rows[half];
      const std::string figure = absl::StrFormat("balance.rows_%u_%s", rows, name);
      print_figure((figure + "_share").c_str(),
                   static_cast<double>(busiest) / static_cast<double>(all), "x");
      print_figure((figure + "_us").c_str(), microseconds(percentile(found[0].times[half], 0.5)),
                   "us");
    }
  }

 private:
  static constexpr int kSkewedForwards = 40;

  // Before experts are placed, and after.
  struct Skewed {
    std::array<uint64_t, 2> rows{};
    std::array<std::vector<Duration>, 2> times;
  };

  // Of each row, experts that were drawn by weights of 1 / k; a sum of the uniform's logarithm and
  // the weight's gives that, if the largest are taken.
  static std::vector<float> skewed_logits(uint32_t rows, uint64_t seed) {
    Random random(seed);
    std::vector<float> logits(std::size_t{rows} * kExperts);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double gumbel = -std::log(-std::log(random.unit() * 0.999 + 0.0005));
      const auto rank = static_cast<double>(i % kExperts + 1);
      logits[i] = static_cast<float>(gumbel - std::log(rank));
    }
    return logits;
  }

  [[nodiscard]] Skewed run_skewed(uint32_t rows, unsigned threads, ExpertExchange& exchange) const {
    SoloCollective solo;
    ThreadPool pool(threads);
    cpu::CpuDevice device(Element::kBfloat16, pool, solo, cpu::best_kernels(), cpu::OnLoad::kKeep,
                          nullptr, &exchange);
    auto x = random_values(std::size_t{rows} * kHidden, exchange.place());
    std::vector<float> out(x.size());
    Skewed found;
    for (int forward = 0; forward < 2 * kSkewedForwards; ++forward) {
      const std::size_t half = forward < kSkewedForwards ? 0 : 1;
      auto logits = skewed_logits(rows, static_cast<uint64_t>(forward) * 2 + exchange.place());
      const View router{logits.data(), rows, kExperts, kExperts};
      const ExpertChoices choices = device.choose_experts(
          {.experts_per_token = kEach, .renormalises = true}, nullptr, router);
      const uint64_t rows_before = exchange.load()->rows;
      exchange.begin_forward(false);
      const Instant begin = now();
      device.run_experts(Activation::kSilu, experts_, choices, {x.data(), rows, kHidden, kHidden},
                         {out.data(), rows, kHidden, kHidden});
      found.times[half].push_back(now() - begin);
      found.rows[half] += exchange.load()->rows - rows_before;
    }
    return found;
  }

  void run_layer(uint32_t rows, unsigned threads, ExpertExchange* exchange, uint64_t seed,
                 std::vector<Duration>& times) const {
    SoloCollective solo;
    ThreadPool pool(threads);
    cpu::CpuDevice device(Element::kBfloat16, pool, solo, cpu::best_kernels(), cpu::OnLoad::kKeep,
                          nullptr, exchange);
    auto x = random_values(std::size_t{rows} * kHidden, seed);
    auto logits = random_values(std::size_t{rows} * kExperts, seed + 9);
    std::vector<float> out(x.size());
    const View router{logits.data(), rows, kExperts, kExperts};
    const ExpertChoices choices =
        device.choose_experts({.experts_per_token = kEach, .renormalises = true}, nullptr, router);
    const int rounds = rows >= 128 ? 20 : 60;
    for (int i = 0; i < rounds; ++i) {
      const Instant begin = now();
      device.run_experts(Activation::kSilu, experts_, choices, {x.data(), rows, kHidden, kHidden},
                         {out.data(), rows, kHidden, kHidden});
      times.push_back(now() - begin);
    }
  }

  ThreadPool pool_{1};
  SoloCollective solo_;
  cpu::CpuDevice device_;
  std::vector<ExpertWeights> experts_;
};

}  // namespace
}  // namespace trireme::bench

int main() {
  for (const uint32_t members : {2U, 4U}) trireme::bench::measure_members(members);
  trireme::bench::measure_nodes("nodes_2", {});
  trireme::bench::measure_nodes("nodes_2_curve", {.key = trireme::zmq::ClusterKey::generate()});
  const unsigned threads = std::max(std::thread::hardware_concurrency(), 2U);
  const trireme::bench::Layer layer;
  for (const uint32_t rows : {2U, 16U, 128U, 1024U}) layer.measure(rows, threads);
  for (const uint32_t rows : {16U, 128U, 1024U}) layer.measure_balance(rows, threads);
  for (const uint32_t members : {2U, 4U}) trireme::bench::measure_agreement(members);
}
