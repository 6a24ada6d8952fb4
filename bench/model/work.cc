#include "bench/model/work.h"

#include <algorithm>

namespace trireme::bench {

Work work_of(const ModelShape& shape, const Case& test, uint64_t weight_bytes,
             double kv_bytes_per_token, bool is_integer) {
  const double sequences = test.sequences;
  const double start = test.start;
  const double tokens = test.tokens;
  const double linear = 2 * static_cast<double>(shape.layer_weights()) * sequences * tokens;
  // A token meets itself and all before it, with its query and with its weights.
  const double pairs = sequences * (tokens * start + tokens * (tokens + 1) / 2);
  const double attention = 4.0 * shape.layers * shape.heads * shape.head_size() * pairs;
  const double head = 2 * static_cast<double>(shape.head_weights()) * sequences;
  const double products = linear + head;
  return {.weight_bytes = static_cast<double>(weight_bytes),
          .kv_bytes = kv_bytes_per_token * sequences * (start + tokens),
          .operations = attention + (is_integer ? 0 : products),
          .integer_operations = is_integer ? products : 0};
}

double seconds_at(const Limits& limits, const Work& work) {
  const double reading = (work.weight_bytes + work.kv_bytes) / limits.read_gigabytes / 1e9;
  if (limits.gigaflops <= 0) return reading;
  const double operations = work.operations + work.integer_operations / 2;
  return std::max(reading, operations / limits.gigaflops / 1e9);
}

}  // namespace trireme::bench
