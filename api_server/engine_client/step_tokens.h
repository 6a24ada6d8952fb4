// StepTokens: how many tokens the steps of engines brought, in vLLM's buckets of
// vllm:iteration_tokens_total. Threads: one owner.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace trireme::api {

struct StepTokens {
  static constexpr std::array<double, 13> kBounds = {1,   8,    16,   32,   64,   128,  256,
                                                     512, 1024, 2048, 4096, 8192, 16384};
  std::array<uint64_t, kBounds.size() + 1> counts{};  // Beyond the last bound is +Inf.
  uint64_t sum = 0;

  void observe(uint64_t tokens) {
    const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), double(tokens));
    ++counts[static_cast<std::size_t>(bucket - kBounds.begin())];
    sum += tokens;
  }
};

}  // namespace trireme::api
