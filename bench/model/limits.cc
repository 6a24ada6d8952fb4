#include "bench/model/limits.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bench/model/tile_products.h"
#include "common/clock.h"

namespace trireme::bench {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{2} << 30;  // More than any cache.
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
constexpr uint32_t kRuns = 5;
constexpr uint32_t kComputePieces = 64;
constexpr uint32_t kComputeSteps = 50'000;
constexpr uint32_t kTileSteps = 12'500;
constexpr uint32_t kChains = 12;

double seconds_since(Instant begin) { return std::chrono::duration<double>(now() - begin).count(); }

const std::byte* buffer(worker::ThreadPool& pool) {
  static std::byte* const data = [&] {
    void* mapped = mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return static_cast<std::byte*>(nullptr);
    (void)madvise(mapped, kBufferBytes, MADV_HUGEPAGE);
    auto* bytes = static_cast<std::byte*>(mapped);
    pool.run(kBufferBytes / kPieceBytes,
             [&](uint32_t piece) { std::memset(bytes + piece * kPieceBytes, 1, kPieceBytes); });
    return bytes;
  }();
  return data;
}

using Words = uint64_t __attribute__((vector_size(64)));

__attribute__((target("avx512f"))) uint64_t read_piece(const std::byte* from) {
  const auto* words = reinterpret_cast<const Words*>(from);
  Words sums[8] = {};
  for (std::size_t i = 0; i < kPieceBytes / sizeof(Words); i += 8) {
#pragma GCC unroll 8
    for (std::size_t part = 0; part < 8; ++part) sums[part] ^= words[i + part];
  }
  uint64_t all = 0;
  for (const Words& sum : sums) all ^= sum[0] ^ sum[7];
  return all;
}

__attribute__((target("avx512f,avx512bf16"))) void multiply_piece() {
  __m512 sums[kChains];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3c003c00));
  auto b = a;
  for (uint32_t step = 0; step < kComputeSteps; ++step) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 12
    for (uint32_t i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
  }
  for (__m512& sum : sums) __asm__ volatile("" : "+v"(sum));
}

double measure_read(worker::ThreadPool& pool) {
  const std::byte* data = buffer(pool);
  if (data == nullptr) return 0;
  double best = 0;
  for (uint32_t run = 0; run < kRuns; ++run) {
    const Instant begin = now();
    pool.run(kBufferBytes / kPieceBytes, [&](uint32_t piece) {
      uint64_t word = read_piece(data + piece * kPieceBytes);
      __asm__ volatile("" : "+r"(word));
    });
    best = std::max(best, static_cast<double>(kBufferBytes) / seconds_since(begin) / 1e9);
  }
  return best;
}

// Of the fastest of a few runs of pieces of so many operations.
double measure_pieces(worker::ThreadPool& pool, double operations, void (*multiply)()) {
  double best = 0;
  for (uint32_t run = 0; run < kRuns; ++run) {
    const Instant begin = now();
    pool.run(kComputePieces, [&](uint32_t) { multiply(); });
    best = std::max(best, operations * kComputePieces / seconds_since(begin) / 1e9);
  }
  return best;
}

}  // namespace

Limits measure_limits(worker::ThreadPool& pool) {
  Limits limits;
  if (__builtin_cpu_supports("avx512f")) limits.read_gigabytes = measure_read(pool);
  if (may_multiply_tiles()) {
    limits.instruction = "tdpbf16ps";
    limits.gigaflops =
        measure_pieces(pool, kTileStepOperations * kTileSteps, [] { multiply_tiles(kTileSteps); });
  } else if (__builtin_cpu_supports("avx512bf16")) {
    // 16 lanes of two products and two additions.
    limits.instruction = "vdpbf16ps";
    limits.gigaflops = measure_pieces(pool, 64.0 * kChains * kComputeSteps, multiply_piece);
  }
  return limits;
}

}  // namespace trireme::bench
