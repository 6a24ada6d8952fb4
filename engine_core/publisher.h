// Publisher: sends each front end what its requests got, and the engine's load.
//
// A message goes to a front end when it has outputs, and, without outputs, when the load, the pause
// or the stall it knows is old: at once if the engine goes idle, else at most every kStatsInterval.
// Whether the engine is in a wave may change with every request: that alone is told more rarely.
// The figures of the shared-memory queues go along with the next message after tell_shm(), where
// they have changed; who gets none is told by owes_shm(). With the output ring full everything
// stays here and goes out together later; while that lasts the engine makes no steps
// (is_blocked()), so memory stays bounded. Threads: the main loop's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "engine_core/engine_channel.h"
#include "engine_core/step_outputs.h"

namespace trireme::engine {

class Publisher {
 public:
  static constexpr Duration kStatsInterval = std::chrono::milliseconds(10);
  static constexpr Duration kSteppingInterval = std::chrono::milliseconds(500);

  Publisher(EngineId engine, Incarnation incarnation, EngineChannel& channel)
      : engine_(engine), incarnation_(incarnation), channel_(channel) {}

  void on_joined(const FrontEndJoined& event);
  void on_left(FrontEndId front_end);
  [[nodiscard]] bool is_here(FrontEndId front_end) const;
  // An AddRequest was taken from it.
  void on_request(FrontEndId front_end) { ++front_ends_[front_end.value].requests_received; }

  [[nodiscard]] StepOutputs& outputs() { return outputs_; }
  void publish(const wire::EngineStats& stats, bool is_idle, Instant now);
  // `at_once`: reason enough for a message with the next publish().
  void tell_shm(const std::optional<wire::ShmStats>& stats, bool at_once);
  // Has a front end not heard of what was last told?
  [[nodiscard]] bool owes_shm() const;
  void reply(FrontEndId front_end, wire::UtilityReply reply);

  // The time when load that was held back is due; Instant::max(): none is.
  [[nodiscard]] Instant due_at() const { return due_at_; }
  [[nodiscard]] bool is_blocked() const { return is_blocked_; }

 private:
  struct FrontEnd {
    uint64_t serial = 0;  // 0: nobody has this number.
    uint64_t requests_received = 0;
    uint64_t requests_told = 0;
    uint32_t waiting_told = 0;
    uint32_t running_told = 0;
    wire::EngineStanding standing_told;
    std::optional<wire::ShmStats> shm_told;
    bool shm_is_due = false;
    Instant told_at{};
  };
  // How long after the message before these are worth another; nothing: they are not.
  [[nodiscard]] static std::optional<Duration> interval(const FrontEnd& front_end,
                                                        const wire::EngineStats& stats,
                                                        bool is_idle);
  [[nodiscard]] bool send(FrontEndId id, const wire::EngineStats& stats, Instant now);
  [[nodiscard]] std::unique_ptr<OutputMessage> fresh_message(FrontEndId id);

  EngineId engine_;
  Incarnation incarnation_;
  EngineChannel& channel_;
  StepOutputs outputs_;
  std::optional<wire::ShmStats> shm_;
  std::vector<FrontEnd> front_ends_;
  std::vector<std::unique_ptr<OutputMessage>> replies_;  // Held back by a full ring.
  Instant due_at_ = Instant::max();
  bool is_blocked_ = false;
};

}  // namespace trireme::engine
