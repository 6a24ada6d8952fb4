// SignOfLife: what a worker is at, in memory that its engine looks at when a step is late.
//
//   worker ── LifeSigns: a store at each change of phase ──▶ SignOfLife ◀── look_at() ── engine
//
// Nobody waits for those stores, and the engine does not look while steps are quick, so it costs
// neither of them anything to speak of. Zeroed memory means that nobody writes here (a worker on
// another node). There is no clock in it: who looks twice and sees the same knows that nothing
// moved in between. The step and the activity are two words: a look between their stores sees the
// new step with the activity before it, and the next look puts that right. So is who is waited for.
// Who waits for others shows that it can still run: whose process is frozen, or hangs in the
// kernel, does not.
// Threads: one writes; any, in any process, reads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>

#include "common/check.h"
#include "common/clock.h"
#include "common/id.h"

namespace trireme::worker {

enum class WorkerPhase : uint8_t {
  kUnknown = 0,
  kLoading = 1,
  kStarting = 2,   // Takes in what the step says.
  kReceiving = 3,  // Waits for the stage before.
  kAttention = 4,
  kMlp = 5,
  kReducing = 6,  // Computes a sum with its tensor-parallel peers: waits for them.
  kLogits = 7,
  kSampling = 8,
  kSending = 9,  // Waits for the stage after.
  kDone = 10,    // Has the step's result; waits for the next.
  // Of a mixture whose experts are divided over the ranks of a wave.
  kDispatching = 11,       // Sends rows to the experts, and waits for those of the others.
  kComputingExperts = 12,  // For itself and for the others.
  kCombining = 13,         // Waits for what the others' experts gave.
  kLoadingExperts = 14,    // Reads those of others from the checkpoint, piece by piece.
};

struct SignOfLife {
  std::atomic<uint64_t> step;
  std::atomic<uint64_t> activity;  // changes << 32 | layer << 8 | phase
  std::atomic<uint64_t> awaited;   // 1 + the place of the wave that it waits for; 0: for none.
  std::atomic<uint64_t> asides;    // What its peers need not do as well, so far.
  std::atomic<uint64_t> begun;     // Steps so far: several may have the same number.
  std::atomic<uint64_t> waits;     // For peers so far; a long one counts again and again.
};

// The memory that a queue has for it beside a worker's ring of results.
[[nodiscard]] inline SignOfLife& sign_of_life_in(std::span<std::byte> note) {
  TRIREME_CHECK(note.size() >= sizeof(SignOfLife), "a note holds a sign of life");
  return *std::launder(reinterpret_cast<SignOfLife*>(note.data()));
}

struct LifeSighting {
  StepId step;
  WorkerPhase phase = WorkerPhase::kUnknown;
  uint32_t layer = 0;
  uint32_t changes = 0;             // Of phase or layer so far, as its peers make them; wraps.
  std::optional<uint32_t> awaited;  // The first place of a wave (worker/comm) that has not come.
  uint64_t asides = 0;              // Other signs of life so far.
  uint64_t begun = 0;               // Steps so far, by the messages that said them.
  uint64_t waits = 0;               // And such as are no progress: it waits, but can run.
  friend bool operator==(const LifeSighting&, const LifeSighting&) = default;
};

[[nodiscard]] inline LifeSighting look_at(const SignOfLife& sign) {
  const uint64_t activity = sign.activity.load(std::memory_order_relaxed);
  const uint64_t awaited = sign.awaited.load(std::memory_order_relaxed);
  return {
      .step = StepId{sign.step.load(std::memory_order_relaxed)},
      .phase = static_cast<WorkerPhase>(activity & 0xFF),
      .layer = static_cast<uint32_t>(activity >> 8) & 0xFFFFFF,
      .changes = static_cast<uint32_t>(activity >> 32),
      .awaited = awaited == 0 ? std::nullopt : std::optional(static_cast<uint32_t>(awaited - 1)),
      .asides = sign.asides.load(std::memory_order_relaxed),
      .begun = sign.begun.load(std::memory_order_relaxed),
      .waits = sign.waits.load(std::memory_order_relaxed)};
}

// The worker's hand. A copy writes to the same place; made from nothing it writes nowhere.
class LifeSigns {
 public:
  // How often a wait is to be shown at least.
  static constexpr Duration kShowWait = std::chrono::milliseconds(250);

  LifeSigns() = default;
  explicit LifeSigns(SignOfLife& shared) : shared_(&shared) {}

  [[nodiscard]] bool are_seen() const { return shared_ != nullptr; }
  [[nodiscard]] WorkerPhase phase() const {
    return shared_ == nullptr ? WorkerPhase::kUnknown : look_at(*shared_).phase;
  }
  void begin_step(StepId step) const {
    if (shared_ == nullptr) return;
    shared_->step.store(step.value, std::memory_order_relaxed);
    shared_->begun.fetch_add(1, std::memory_order_relaxed);
    enter(WorkerPhase::kStarting, 0);
  }
  void await(uint32_t place) const {
    if (shared_ != nullptr) shared_->awaited.store(1 + uint64_t{place}, std::memory_order_relaxed);
  }
  void await_nobody() const {
    if (shared_ != nullptr) shared_->awaited.store(0, std::memory_order_relaxed);
  }
  void show_wait() const {
    if (shared_ != nullptr) shared_->waits.fetch_add(1, std::memory_order_relaxed);
  }
  // The layer stays.
  void enter(WorkerPhase phase) const {
    if (shared_ != nullptr) enter(phase, look_at(*shared_).layer);
  }
  void enter(WorkerPhase phase, uint32_t layer) const {
    if (shared_ == nullptr) return;
    const uint64_t changes = (shared_->activity.load(std::memory_order_relaxed) >> 32) + 1;
    shared_->activity.store(changes << 32 | uint64_t{layer} << 8 | static_cast<uint8_t>(phase),
                            std::memory_order_relaxed);
  }
  // Into a phase that tensor-parallel peers at the same place may not have, and back, and again for
  // each piece of work there: a sign of life, but no change, as the changes of peers are compared.
  void turn_aside(WorkerPhase phase) const {
    if (shared_ == nullptr) return;
    const uint64_t rest = shared_->activity.load(std::memory_order_relaxed) & ~uint64_t{0xFF};
    shared_->activity.store(rest | static_cast<uint8_t>(phase), std::memory_order_relaxed);
    shared_->asides.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  SignOfLife* shared_ = nullptr;
};

}  // namespace trireme::worker
