// How much a forward pass has to do, and how long it takes at the limits of the machine.
#pragma once

#include <cstdint>

#include "bench/model/limits.h"
#include "bench/model/random_model.h"

namespace trireme::bench {

struct Case {
  const char* name;
  uint32_t sequences;
  uint32_t start;   // Tokens of each sequence that are in the KV memory already.
  uint32_t tokens;  // Of each sequence, computed in a run.
  uint32_t steps;   // Runs in a round; 0: as many as fit into the time given.
};

// What no program can do without: all weights and all KV read once (written, for new tokens), all
// products and those of attention. Activations are left out.
struct Work {
  double weight_bytes = 0;
  double kv_bytes = 0;
  double operations = 0;          // In bf16.
  double integer_operations = 0;  // On int8 codes, which are counted at twice the rate of bf16:
                                  // as many instructions.
};

[[nodiscard]] Work work_of(const ModelShape& shape, const Case& test, uint64_t weight_bytes,
                           double kv_bytes_per_token, bool is_integer);

// Reading or multiplying, whichever takes longer.
[[nodiscard]] double seconds_at(const Limits& limits, const Work& work);

}  // namespace trireme::bench
