// AddRequest: front end -> engine core, on the engine's DEALER of the requests channel.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/kind.h"
#include "proto/sampling_params.h"

namespace trireme::wire {

// A new request, already tokenized.
// `key`: the front end's own number, echoed in every output.
// `request_id`: for logs and traces only.
// `prompt_token_ids`: at least one.
// `priority`: the smaller goes first.
// `cache_salt`: prefix blocks are shared only between requests of the same salt.
// `wave`: the one that the front end believes in.
// `output_token_ids`: tokens that another rank has produced already; they count as output.
// The engine answers with outputs until the last, which has a finish reason.
struct AddRequest {
  static constexpr MessageKind kKind = MessageKind::kAddRequest;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  RequestKey key;
  std::string request_id;
  std::vector<int32_t> prompt_token_ids;
  SamplingParams sampling;
  int32_t priority = 0;
  std::string cache_salt;
  WaveId wave;
  std::vector<int32_t> output_token_ids;

  static auto fields(auto& m) {
    return std::tie(m.key, m.request_id, m.prompt_token_ids, m.sampling, m.priority, m.cache_salt,
                    m.wave, m.output_token_ids);
  }
  friend bool operator==(const AddRequest&, const AddRequest&) = default;
};

// AbortRequests: front end -> engine core. Unknown keys are ignored: the request may have ended.
struct AbortRequests {
  static constexpr MessageKind kKind = MessageKind::kAbortRequests;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  std::vector<RequestKey> keys;

  static auto fields(auto& m) { return std::tie(m.keys); }
  friend bool operator==(const AbortRequests&, const AbortRequests&) = default;
};

}  // namespace trireme::wire
