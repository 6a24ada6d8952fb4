// What a load must know of the server and its model before it begins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench/http_exchange.h"
#include "cli/bench/server_url.h"
#include "cli/bench/speculation_figures.h"
#include "common/status.h"

namespace trireme::bench {

struct ServedModel {
  std::string id;    // Its name in the API.
  std::string root;  // Where it came from, as the server says; may be empty.
};

// The first of /v1/models. An error in one line: nobody listens, or what answered is no such
// server.
[[nodiscard]] StatusOr<ServedModel> first_model(const ServerUrl& url, const Headers& headers);

// How many engines an api-server of ours can send to now; nothing where the page does not say.
[[nodiscard]] std::optional<uint32_t> engines_ready(const ServerUrl& url);

// The counters of its /metrics page; nothing where it does not say.
[[nodiscard]] std::optional<SpeculationCounts> speculation_counts(const ServerUrl& url,
                                                                  const Headers& headers);

struct Vocabulary {
  uint32_t size = 0;
  std::string source;  // For the user: the file, or that it is a guess.
};

// vocab_size of config.json, of the first of `models` (directories or hub ids in the local cache)
// where there is one; else one that is smaller than any usual model's.
[[nodiscard]] Vocabulary find_vocabulary(const std::vector<std::string>& models);

}  // namespace trireme::bench
