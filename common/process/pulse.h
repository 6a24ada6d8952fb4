// Pulse: a child's sign of life, in a page that its parent looks at.
//
//   child, once a turn of its main loop ── beat(): a store ──▶ one word ◀── a look a second ──
//   parent
//
// The parent (supervisor.h) makes the page, gives its descriptor to the child (TRIREME_PULSE) and
// judges what it sees (pulse_watch.h). A main loop that may sleep longer wakes at least every
// kPulseInterval to beat. There is no clock in it: who looks twice and sees the same knows that no
// turn was made in between.
// Threads: one beats, the main thread; one reads, in another process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "common/clock.h"
#include "common/shm/mapping.h"
#include "common/status.h"

namespace trireme::process {

inline constexpr char kPulseVariable[] = "TRIREME_PULSE";
inline constexpr Duration kPulseInterval = std::chrono::seconds(1);

// The child's hand. A copy beats in the same place; one made from nothing beats nowhere.
class Pulse {
 public:
  Pulse() = default;

  // The one that our parent gave us, out of the environment: our own children get none of it. One
  // that nobody sees when there is none. Before any other thread is started; once.
  [[nodiscard]] static StatusOr<Pulse> take_inherited();

  void beat() const {
    if (beats_ == nullptr) return;
    beats_->store(beats_->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  // When the main loop must turn again, at the latest.
  [[nodiscard]] Instant due_at(Instant now) const {
    return beats_ == nullptr ? Instant::max() : now + kPulseInterval;
  }

 private:
  explicit Pulse(std::shared_ptr<const shm::Mapping> memory);
  std::shared_ptr<const shm::Mapping> memory_;
  std::atomic<uint64_t>* beats_ = nullptr;
};

// The parent's side: the page, for one life of a child after the other.
class PulsePage {
 public:
  [[nodiscard]] static StatusOr<PulsePage> create();

  // For ChildOptions::inherited_fds and kPulseVariable.
  [[nodiscard]] int fd() const { return memory_.fd(); }
  // 0: it has not begun to beat. The number does not go back within a life.
  [[nodiscard]] uint64_t beats() const { return word().load(std::memory_order_relaxed); }
  // Before a new life starts.
  void clear() { word().store(0, std::memory_order_relaxed); }

 private:
  explicit PulsePage(shm::Mapping memory) : memory_(std::move(memory)) {}
  [[nodiscard]] std::atomic<uint64_t>& word() const;
  shm::Mapping memory_;
};

}  // namespace trireme::process
