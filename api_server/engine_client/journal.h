// Journal: every request that was sent to an engine and has not ended, with all that another
// engine would need to go on with it: prompt, parameters, and the tokens that came so far.
//
// Pure. Bounds: as many entries as admission lets in, as large as their prompts and outputs.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "proto/add_request.h"
#include "proto/engine_outputs.h"

namespace trireme::api {

// Who gets what the engine says about a request.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // `choice`: which of the sink's requests.
  virtual void take(uint32_t choice, wire::EngineOutput& output) = 0;
  // The request will not go on. Nothing follows.
  virtual void fail(uint32_t choice, const Status& status) = 0;
};

struct JournalEntry {
  // With output_token_ids growing as tokens come: sent as it stands, it would be continued.
  wire::AddRequest request;
  uint32_t engine = 0;
  uint32_t choice = 0;
  std::shared_ptr<OutputSink> sink;
  bool is_prefilled = false;
};

class Journal {
 public:
  JournalEntry& add(JournalEntry entry) {
    const RequestKey key = entry.request.key;
    return entries_.insert_or_assign(key, std::move(entry)).first->second;
  }
  // Null: unknown, or ended.
  [[nodiscard]] JournalEntry* find(RequestKey key) {
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : &found->second;
  }
  // An entry that has ended.
  [[nodiscard]] JournalEntry take(RequestKey key) {
    return std::move(entries_.extract(key).mapped());
  }
  // What an engine had when it was lost. O(entries): a loss is rare.
  [[nodiscard]] std::vector<RequestKey> keys_of(uint32_t engine) const {
    std::vector<RequestKey> keys;
    for (const auto& [key, entry] : entries_) {
      if (entry.engine == engine) keys.push_back(key);
    }
    return keys;
  }
  [[nodiscard]] std::vector<RequestKey> keys() const {
    std::vector<RequestKey> keys;
    keys.reserve(entries_.size());
    for (const auto& [key, entry] : entries_) keys.push_back(key);
    return keys;
  }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  std::unordered_map<RequestKey, JournalEntry> entries_;
};

}  // namespace trireme::api
