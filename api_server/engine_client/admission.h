// Admission: how much may be in the house at once. Pure.
//
// Counted over this front end: requests (each choice of each prompt is one) that have not ended,
// and prompt tokens whose prefill has not given its first token. All of a call's requests enter, or
// none. What is refused is refused at once, with kResourceExhausted (429 and Retry-After); a call
// that could not even enter an empty house with kInvalidArgument.
// Bounds: by default 4 times what the ready engines can run at once, and 4 times what their KV
// blocks hold; each front end of several takes its share.
// Threads: one owner.
#pragma once

#include <cstdint>

#include "common/status.h"

namespace trireme::api {

struct AdmissionLimits {
  uint64_t requests_max = 0;
  uint64_t prompt_tokens_max = 0;
};

// `option` 0: the default from the capacity. `front_ends` share the bound, rounded up.
[[nodiscard]] AdmissionLimits admission_limits(uint64_t requests_option, uint64_t tokens_option,
                                               uint64_t sequences_capacity,
                                               uint64_t kv_tokens_capacity, uint32_t front_ends);

class Admission {
 public:
  void set_limits(AdmissionLimits limits) { limits_ = limits; }

  [[nodiscard]] Status try_enter(uint64_t requests, uint64_t prompt_tokens);
  void leave(uint64_t requests) { requests_ -= requests; }
  // The prefill is done, or the request ended before.
  void prefilled(uint64_t prompt_tokens) { prompt_tokens_ -= prompt_tokens; }

  [[nodiscard]] uint64_t requests() const { return requests_; }
  [[nodiscard]] uint64_t prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] const AdmissionLimits& limits() const { return limits_; }
  [[nodiscard]] uint64_t refused_by_requests() const { return refused_by_requests_; }
  [[nodiscard]] uint64_t refused_by_tokens() const { return refused_by_tokens_; }

 private:
  AdmissionLimits limits_;
  uint64_t requests_ = 0;
  uint64_t prompt_tokens_ = 0;
  uint64_t refused_by_requests_ = 0;
  uint64_t refused_by_tokens_ = 0;
};

}  // namespace trireme::api
