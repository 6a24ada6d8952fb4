// bench_limits: what the machine can do now, one line of JSON. See limits.h.
//
//   bench_limits [[--threads] N]     default: all cores
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/model/limits.h"

namespace {

constexpr char kUsage[] = "usage: bench_limits [[--threads] N]\n";

// Nothing: not a count.
std::optional<unsigned> threads_of(std::span<const char* const> words) {
  if (words.empty()) return std::max(std::thread::hardware_concurrency(), 1U);
  const std::string_view text = words.back();
  if (words.size() > 2 || (words.size() == 2 && std::string_view(words[0]) != "--threads")) {
    return std::nullopt;
  }
  unsigned threads = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), threads);
  const bool is_count = code == std::errc() && end == text.data() + text.size() && threads > 0;
  return is_count ? std::optional(threads) : std::nullopt;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<const char* const> words(argv + 1, argv + argc);
  for (const std::string_view word : words) {
    if (word == "--help" || word == "-h") return std::fputs(kUsage, stdout), 0;
  }
  const std::optional<unsigned> threads = threads_of(words);
  if (!threads) {
    std::fputs("bench_limits:", stderr);
    for (const char* word : words) std::fprintf(stderr, " %s", word);
    std::fprintf(stderr, ": not a count of threads\n%s", kUsage);
    return 2;
  }
  std::vector<int> cpus(*threads);
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(*threads, cpus);
  const trireme::bench::Limits limits = trireme::bench::measure_limits(pool);
  std::printf(
      "{\"read_gb_s\": %.2f, \"bf16_gflop_s\": %.0f, \"bf16_instruction\": \"%s\", "
      "\"threads\": %zu}\n",
      limits.read_gigabytes, limits.gigaflops, limits.instruction, cpus.size());
  return 0;
}
