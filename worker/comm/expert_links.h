// ExpertLinks: what carries rows between the places of a wave, to the experts and back.
//
// A place is one worker of one stage: place = data-parallel rank · tp_size + tp_rank. The members
// of a wave are some places, ascending; a member is known by its index among them.
//
//   join(wave, members, ...)  the waves of a place only grow; what an earlier one left is gone
//   transfer(out, in)         all to all: returns when all that goes out is on its way and all that
//                             is to come is here
//
// All members make the same calls in the same order. What goes to a member are pieces; the piece
// that it takes in has the same number of bytes as the one sent, and none is told of where that is
// 0. So a piece may say how large those behind it are.
//
// Members on other nodes are found by their address(), those of the own node without one.
//
// kAborted: the wave was left, by this place's engine or by a member; until the next join() every
// call fails so at once. Other errors are for good; kDeadlineExceeded names the place that did not
// come. Threads: one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/id.h"
#include "common/status.h"

namespace trireme::worker {

// What goes to one member.
struct OutgoingPieces {
  static constexpr std::size_t kPiecesMax = 3;
  std::array<std::span<const std::byte>, kPiecesMax> pieces;
};

// Where to put what comes.
class IncomingPieces {
 public:
  virtual ~IncomingPieces() = default;
  // Of `member`, asked for when all pieces before have come; empty: no more is to come.
  [[nodiscard]] virtual StatusOr<std::span<std::byte>> next_piece(uint32_t member) = 0;
};

class ExpertLinks {
 public:
  virtual ~ExpertLinks() = default;

  [[nodiscard]] virtual uint32_t place() const = 0;
  // Where places of other nodes find this one; empty: nowhere.
  [[nodiscard]] virtual std::string address() const { return {}; }
  // `addresses` by member, empty for those of this node; or none at all. kInvalidArgument: own
  // place is missing, or one that it does not reach is among them.
  [[nodiscard]] Status join(WaveId wave, std::span<const uint32_t> members,
                            std::span<const std::string> addresses = {}) {
    return enter_wave(wave, members, addresses);
  }
  // Own index among the members, and their number; 0 before the first wave.
  [[nodiscard]] virtual uint32_t rank() const = 0;
  [[nodiscard]] virtual uint32_t size() const = 0;
  // `outgoing` by member; what is there for the own one is ignored, and it is not asked for either.
  [[nodiscard]] virtual Status transfer(std::span<const OutgoingPieces> outgoing,
                                        IncomingPieces& incoming) = 0;

 private:
  [[nodiscard]] virtual Status enter_wave(WaveId wave, std::span<const uint32_t> members,
                                          std::span<const std::string> addresses) = 0;
};

}  // namespace trireme::worker
