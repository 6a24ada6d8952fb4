// EngineChannel: all that the main loop and the I/O thread of a rank share.
//
//   I/O thread ── InputEvent ──▶ input ──▶ main loop
//   I/O thread ◀── OutputMessage ◀── output ◀── main loop
//   I/O thread ◀── WaveStanding, StepMail ◀── standings, step_mail ◀── main loop
//   I/O thread ── sent messages, for their memory ──▶ spent ──▶ main loop
//
// Back-pressure: a full `input` makes the I/O thread stop reading its sockets; with a full `output`
// the main loop keeps outputs together until there is room (publisher.h).
// The sign of life: before a KeepAlive is due the I/O thread sets beat_wanted and rings the main
// loop; each turn of the main loop counts in main_turns. No turn, no KeepAlive.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine_core/bell.h"
#include "engine_core/lockstep/lockstep_group.h"
#include "engine_core/spsc_ring.h"
#include "engine_core/step_outputs.h"
#include "proto/add_request.h"
#include "proto/engine_outputs.h"
#include "proto/step_agreement.h"
#include "proto/utility.h"

namespace trireme::engine {

// A front end gets a number (small, used again) and a serial (never used again) from the I/O
// thread when it comes into the view.
struct FrontEndJoined {
  FrontEndId front_end;
  uint64_t serial = 0;
};
struct FrontEndLeft {
  FrontEndId front_end;
};
struct RequestAdded {
  FrontEndId front_end;
  wire::AddRequest request;
};
struct RequestsAborted {
  FrontEndId front_end;
  std::vector<RequestKey> keys;
};
struct UtilityCalled {
  FrontEndId front_end;
  wire::UtilityCall call;
};
// The coordinator will never take us: stop, and say this.
struct MembershipRefused {
  std::string reason;
};
// The coordinator has started a wave with this rank in it.
struct WaveStarted {
  wire::StartWave start;
  std::vector<std::string> node_names;  // Of start.ranks; none, or empty: not known.
};
// Another node of the lockstep group has said something.
struct StepHeard {
  wire::StepAgreement message;
};
using InputEvent =
    std::variant<std::monostate, FrontEndJoined, FrontEndLeft, RequestAdded, RequestsAborted,
                 UtilityCalled, MembershipRefused, WaveStarted, StepHeard>;

// What a group on several nodes has for the I/O thread: a wave's addresses, or a message.
struct StepMail {
  std::vector<std::string> addresses;  // Empty: a message.
  WaveId wave;                         // That begins.
  uint32_t node = 0;                   // Own one, or to whom.
  wire::StepAgreement message;
};

struct OutputMessage {
  FrontEndId front_end;
  uint64_t serial = 0;
  wire::EngineOutputs outputs;              // Sent unless there is a reply.
  std::optional<wire::UtilityReply> reply;  // Sent instead.
};

struct EngineChannel {
  static constexpr std::size_t kInputMax = 4096;
  static constexpr std::size_t kOutputMax = 1024;
  static constexpr std::size_t kStandingsMax = 64;
  static constexpr std::size_t kStepMailMax = 256;

  [[nodiscard]] static StatusOr<std::unique_ptr<EngineChannel>> create() {
    TRIREME_ASSIGN_OR_RETURN(UniqueFd main_fd, Bell::open_eventfd());
    TRIREME_ASSIGN_OR_RETURN(UniqueFd io_fd, Bell::open_eventfd());
    return std::unique_ptr<EngineChannel>(new EngineChannel(std::move(main_fd), std::move(io_fd)));
  }

  Bell main_bell;
  Bell io_bell;
  SpscRing<InputEvent> input{kInputMax};
  SpscRing<std::unique_ptr<OutputMessage>> output{kOutputMax};
  SpscRing<std::unique_ptr<OutputMessage>> spent{kOutputMax};
  SpscRing<StepMail> step_mail{kStepMailMax};       // Full: dropped, and said again.
  SpscRing<WaveStanding> standings{kStandingsMax};  // For the coordinator; the last one counts.
  std::atomic<uint64_t> main_turns{0};
  std::atomic<bool> beat_wanted{false};
  std::atomic<bool> input_is_blocked{false};  // The I/O thread waits for room in `input`.
  std::atomic<bool> is_draining{false};

 private:
  EngineChannel(UniqueFd main_fd, UniqueFd io_fd)
      : main_bell(std::move(main_fd)), io_bell(std::move(io_fd)) {}
};

}  // namespace trireme::engine
