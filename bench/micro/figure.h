// One line of JSON per figure, as bench/run reads them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "common/clock.h"

namespace trireme::bench {

inline void print_figure(const char* name, double value, const char* unit) {
  std::printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", name, value, unit);
  std::fflush(stdout);
}

inline double microseconds(Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// `part` in [0, 1]; 0.5 is the median.
template <typename Value>
Value percentile(std::vector<Value> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
}

}  // namespace trireme::bench
