#include "api_server/engine_client/admission.h"

#include <algorithm>

namespace trireme::api {
namespace {

constexpr uint64_t kCapacityFactor = 4;
constexpr uint64_t kRequestsMin = 64;
constexpr uint64_t kPromptTokensMin = 64 * 1024;

}  // namespace

AdmissionLimits admission_limits(uint64_t requests_option, uint64_t tokens_option,
                                 uint64_t sequences_capacity, uint64_t kv_tokens_capacity,
                                 uint32_t front_ends) {
  const auto share = [&](uint64_t total) { return (total + front_ends - 1) / front_ends; };
  return {.requests_max = share(requests_option > 0
                                    ? requests_option
                                    : std::max(kRequestsMin, kCapacityFactor * sequences_capacity)),
          .prompt_tokens_max =
              share(tokens_option > 0
                        ? tokens_option
                        : std::max(kPromptTokensMin, kCapacityFactor * kv_tokens_capacity))};
}

Status Admission::try_enter(uint64_t requests, uint64_t prompt_tokens) {
  if (requests > limits_.requests_max) {  // No use in trying again.
    return error(StatusCode::kInvalidArgument,
                 "a call of %u requests (prompts times n); %u may be in progress at all "
                 "(--max-num-queued-reqs)",
                 requests, limits_.requests_max);
  }
  if (requests_ + requests > limits_.requests_max) {
    ++refused_by_requests_;
    return error(
        StatusCode::kResourceExhausted,
        "%u requests are in progress here and %u may be (--max-num-queued-reqs); try again "
        "later",
        requests_, limits_.requests_max);
  }
  // A prompt longer than the whole bound may still enter an empty house: it fits the model.
  if (prompt_tokens_ > 0 && prompt_tokens_ + prompt_tokens > limits_.prompt_tokens_max) {
    ++refused_by_tokens_;
    return error(
        StatusCode::kResourceExhausted,
        "%u prompt tokens wait for their prefill and %u may (--max-num-queued-tokens); try "
        "again later",
        prompt_tokens_, limits_.prompt_tokens_max);
  }
  requests_ += requests;
  prompt_tokens_ += prompt_tokens;
  return {};
}

}  // namespace trireme::api
