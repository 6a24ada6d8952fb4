// UtilityCall and UtilityReply: administrative calls from a front end to an engine (reset the
// prefix cache, pause, sleep, ...). The method is a number from this list, never a name looked up
// in the receiver.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/expert_table.h"
#include "proto/kind.h"

namespace trireme::wire {

enum class UtilityMethod : uint16_t {
  kResetPrefixCache = 1,
  kPause = 2,  // argument: abort | wait | keep
  kResume = 3,
  kIsPaused = 4,
  kSleep = 5,         // As kPause; then KV memory is let go and the prefix cache emptied.
  kCheckMemory = 6,   // Of an engine that sleeps: may it have its memory again?
  kExpertTables = 7,  // Of its workers; a second old at most.
};

struct UtilityCall {
  static constexpr MessageKind kKind = MessageKind::kUtilityCall;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  uint64_t call_id = 0;
  UtilityMethod method{};
  std::string argument;
  // When it was asked for, Unix microseconds: the same to every engine, so that ranks which step
  // together agree on the latest pause or resume. Since version 2.
  uint64_t issued_at = 0;

  static auto fields(auto& m) { return std::tie(m.call_id, m.method, m.argument, m.issued_at); }
  friend bool operator==(const UtilityCall&, const UtilityCall&) = default;
};

struct UtilityReply {
  static constexpr MessageKind kKind = MessageKind::kUtilityReply;
  static constexpr uint8_t kVersion = 3;
  static constexpr uint8_t kCompat = 1;

  uint64_t call_id = 0;
  EngineId engine;
  bool ok = false;
  std::string result;                      // JSON value when ok, the reason otherwise.
  std::vector<ExpertTable> expert_tables;  // To kExpertTables, by worker. Since version 2.
  // To a pause or resume that does not hold, as another, asked for later elsewhere, wants something
  // else: its issued_at. Since version 3.
  uint64_t overruled_by = 0;

  static auto fields(auto& m) {
    return std::tie(m.call_id, m.engine, m.ok, m.result, m.expert_tables, m.overruled_by);
  }
  friend bool operator==(const UtilityReply&, const UtilityReply&) = default;
};

}  // namespace trireme::wire
