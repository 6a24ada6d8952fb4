// FrontEndCounters: the numbers of one front end that /metrics adds up over all front ends of a
// node; as plain numbers, as words of the CounterBoard, and as a sum.
//
//   counts      are added: over the front ends, and over the lives of one
//   gauges      are added over the front ends that are alive
//   engines     what an engine says of itself is taken from whoever heard it last (the later step
//               of the same life; of its queues, who knows of more messages), what we count about
//               it is added
//
// Pure. Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "api_server/engine_client/engine_client.h"
#include "api_server/http/http_server.h"
#include "api_server/openai/metrics.h"

namespace trireme::api {

struct FrontEndCounters {
  struct EngineRow {
    Incarnation incarnation;
    wire::EngineStats stats;
    wire::ShmStats shm;
    uint64_t routed = 0;
    uint64_t lost = 0;
  };

  Metrics metrics;
  HttpCounters http;  // Its connections_open is a gauge.
  EngineClient::Counters engine_client;
  uint64_t handshakes_failed = 0;
  uint64_t refused_by_requests = 0;
  uint64_t refused_by_tokens = 0;
  uint64_t requests_open = 0;      // Gauge.
  uint64_t requests_open_max = 0;  // Gauge.
  std::vector<EngineRow> engines;  // By rank.

  // `http` null: not open yet.
  [[nodiscard]] static FrontEndCounters of(const Metrics& metrics, const EngineClient& engines,
                                           const HttpCounters* http);
  // Words that somebody else's build wrote give what they give, and nothing worse.
  [[nodiscard]] static FrontEndCounters from_words(std::span<const uint64_t> words);
  // At most `words_max`: the last engines are left out.
  [[nodiscard]] std::vector<uint64_t> to_words(std::size_t words_max) const;

  // Of another front end, or of an earlier life of this one (`is_alive` false).
  void add(const FrontEndCounters& other, bool is_alive);
};

}  // namespace trireme::api
