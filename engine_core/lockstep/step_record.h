// StepRecord: what each rank of a wave says before each step, and what follows from all of them.
//
// combine() is associative, commutative and idempotent, so the records of a wave may be gathered in
// any order and along any tree; decide() is a function of the result alone, so all ranks that have
// heard everybody do the same.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>

#include "common/id.h"

namespace trireme::engine {

enum class PauseMode : uint8_t {
  kNone = 0,
  kWait = 1,   // New requests are refused, those that run go on to their end.
  kKeep = 2,   // Requests stay where they are, new ones wait.
  kAbort = 3,  // New requests are refused, those that run are ended.
};

// The greater one holds: so a group whose ranks have heard different wishes agrees on one.
struct PauseWish {
  uint64_t sequence = 0;  // When it was asked for, the same at every rank that was.
  PauseMode mode = PauseMode::kNone;
  friend auto operator<=>(const PauseWish&, const PauseWish&) = default;
};

struct StepRecord {
  WaveId wave;
  uint64_t step = 0;  // Of the wave, from 1.
  bool has_work = false;
  WaveId next;  // The wave that it has been told to go over to; 0: none.
  PauseWish pause;
  friend bool operator==(const StepRecord&, const StepRecord&) = default;
};

struct StepSummary {
  bool has_work = false;  // Any of them.
  WaveId next_low;
  WaveId next_high;
  PauseWish pause;  // The greatest.
  friend bool operator==(const StepSummary&, const StepSummary&) = default;
};

[[nodiscard]] constexpr StepSummary summary_of(const StepRecord& record) {
  return {record.has_work, record.next, record.next, record.pause};
}

[[nodiscard]] constexpr StepSummary combine(const StepSummary& a, const StepSummary& b) {
  return {.has_work = a.has_work || b.has_work,
          .next_low = std::min(a.next_low, b.next_low),
          .next_high = std::max(a.next_high, b.next_high),
          .pause = std::max(a.pause, b.pause)};
}

// What all of `ranks` say; nothing while one is missing. find(rank): its record, or none.
template <typename Find>
[[nodiscard]] std::optional<StepSummary> gather_from(std::span<const uint32_t> ranks,
                                                     const Find& find) {
  std::optional<StepSummary> all;
  for (const uint32_t rank : ranks) {
    const auto record = find(rank);
    if (!record) return std::nullopt;
    const StepSummary one = summary_of(*record);
    all = all ? combine(*all, one) : one;
  }
  return all;
}

enum class StepOrder : uint8_t {
  kRun,     // All run the step, those without work a dummy.
  kEnd,     // The wave is over: all sleep.
  kSwitch,  // All go over to the next wave.
};

// A rank may have been told of the next wave before the others: then the step is run, and they look
// again at the one after it.
[[nodiscard]] constexpr StepOrder decide(const StepSummary& all) {
  if (all.next_low != WaveId{} && all.next_low == all.next_high) return StepOrder::kSwitch;
  return all.has_work ? StepOrder::kRun : StepOrder::kEnd;
}

}  // namespace trireme::engine
