// AddRequest: front end -> engine core, on the engine's DEALER of the requests channel.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/kind.h"
#include "proto/sampling_params.h"

namespace trireme::wire {

// | # | field             | msgpack | note | | 3 | key               | uint    | the front end's
// own number; echoed in every output            | | 4 | request_id        | str     | for logs and
// traces only                                      | | 5 | prompt_token_ids  | bin i32 | already
// tokenized; at least 1                                 | | 6 | sampling          | array   | see
// sampling_params.h                                         | | 7 | priority          | int     |
// smaller first                                                 | | 8 | cache_salt        | str |
// blocks are shared only between requests of the same salt      | | 9 | wave              | uint |
// the wave the front end believes in                            | |10 | output_token_ids  | bin i32
// | tokens another rank has produced already; counted as output   |
struct AddRequest {
  static constexpr MessageKind kKind = MessageKind::kAddRequest;
  static constexpr uint8_t kVersion = 1;
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
