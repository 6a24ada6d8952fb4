// matmul_bench: the matrix product and the forward pass by themselves.
//
//   matmul_bench [THREADS]               N = 5632, K = 2048, 16 weight matrices in turn (larger
//   than
//                                        the cache), bf16 and fp32: GFLOP/s and GB/s of weights
//   matmul_bench THREADS MODEL_DIR       decode steps of 1 to 64 sequences and prompts:
//   microseconds
//
// Best of several runs: other work on the machine only ever adds time.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "common/clock.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/models/load_model.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kColumns = 5632;
constexpr uint32_t kDepth = 2048;
constexpr uint32_t kMatrices = 16;
constexpr int kRuns = 7;

template <typename Body>
double best_microseconds(const Body& body) {
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const Instant begin = now();
    body();
    best = std::min(best, std::chrono::duration<double, std::micro>(now() - begin).count());
  }
  return best;
}

void measure_matmul(Element element, ThreadPool& pool) {
  SoloCollective solo;
  cpu::CpuDevice device(element, pool, solo);
  const std::vector<float> values(std::size_t{kColumns} * kDepth, 0.01F);
  std::vector<std::unique_ptr<LinearWeight>> weights;
  for (uint32_t i = 0; i < kMatrices; ++i) {
    weights.push_back(
        device
            .load_linear({.parts = {{values.data(), Element::kFloat32, kDepth, kColumns, kDepth}}})
            .value());
  }
  for (const uint32_t rows : {1U, 4U, 8U, 32U, 128U, 512U}) {
    const View x = device.scratch(0, rows, kDepth);
    const View out = device.scratch(1, rows, kColumns);
    const double best = best_microseconds([&] {
      for (const auto& weight : weights) device.linear(*weight, x, out);
    });
    const double operations = 2.0 * rows * kColumns * kDepth * kMatrices;
    const double bytes =
        static_cast<double>(element_bytes(element)) * kColumns * kDepth * kMatrices;
    std::printf("%s M=%-4u %8.0f GFLOP/s %6.1f GB/s\n",
                element == Element::kBfloat16 ? "bf16" : "fp32", rows, operations / best / 1e3,
                bytes / best / 1e3);
  }
}

constexpr uint32_t kContextTokens = 128;

// `sequences` rows of `tokens` new tokens each, after `start` tokens.
double step_microseconds(Model& model, uint32_t sequences, uint32_t start, uint32_t tokens) {
  const uint32_t blocks_each = (start + tokens) / model.kv_shape().block_tokens + 1;
  std::vector<int32_t> blocks(std::size_t{sequences} * blocks_each);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<int32_t> ids(std::size_t{sequences} * tokens);
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<int32_t> positions;
  std::vector<ForwardRow> rows;
  std::vector<uint32_t> wanted;
  for (uint32_t row = 0; row < sequences; ++row) {
    rows.push_back({.token_begin = row * tokens,
                    .token_count = tokens,
                    .start = start,
                    .blocks = std::span(blocks).subspan(row * blocks_each, blocks_each)});
    for (uint32_t i = 0; i < tokens; ++i) positions.push_back(static_cast<int32_t>(start + i));
    wanted.push_back((row + 1) * tokens - 1);
  }
  std::vector<float> logits(std::size_t{sequences} * model.vocabulary_size());
  const ForwardBatch batch{
      .tokens = ids, .positions = positions, .rows = rows, .logits_tokens = wanted};
  return best_microseconds([&] { (void)model.forward(batch, {}, {}, logits); });
}

int measure_model(const std::string& path, ThreadPool& pool) {
  const auto directory = ModelDirectory::open(path);
  SoloCollective solo;
  auto model = directory.ok() ? load_model(*directory, WorkerPlace{}, {}, solo, pool, {})
                              : StatusOr<std::unique_ptr<Model>>(directory.status());
  Status status = model.status();
  if (status.ok()) status = (*model)->allocate_kv(64 * (kContextTokens / 16 + 1));
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  std::printf("weights %.1f MB\n", static_cast<double>((*model)->weight_bytes()) / 1e6);
  for (const uint32_t sequences : {1U, 2U, 8U, 16U, 64U}) {
    std::printf("decode %2u sequences after %u tokens: %8.0f us\n", sequences, kContextTokens,
                step_microseconds(**model, sequences, kContextTokens, 1));
  }
  for (const uint32_t tokens : {8U, 128U, 512U}) {
    std::printf("prompt of %3u tokens: %8.0f us\n", tokens,
                step_microseconds(**model, 1, 0, tokens));
  }
  return 0;
}

}  // namespace
}  // namespace trireme::worker

int main(int argc, char** argv) {
  using namespace trireme::worker;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  ThreadPool pool(static_cast<uint32_t>(std::max(threads, 1)));
  if (argc > 2) return measure_model(argv[2], pool);
  measure_matmul(Element::kBfloat16, pool);
  measure_matmul(Element::kFloat32, pool);
  return 0;
}
