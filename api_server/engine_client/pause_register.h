// PauseRegister: whether the engines are to be paused, one word that all front ends of a node
// share.
//
//   launcher     create(now)                children inherit the fd
//   api-server   attach(fd)                 get(), set(mode, now)
//
// The word outlives each front end, so a life that follows another knows what was asked of that
// one, and an engine that comes up is told the same by all. A state is known by when it was asked
// for, which only grows and no two share: of two front ends that disagree, the older one is wrong,
// and engines that step together agree by it (UtilityCall::issued_at).
// Who does neither has a word for itself (tests).
// Threads and processes: any number read and write.
#pragma once

#include <cstdint>
#include <optional>

#include "common/shm/mapping.h"
#include "common/status.h"

namespace trireme::api {

enum class PauseMode : uint8_t { kServing = 0, kAbort = 1, kWait = 2, kKeep = 3 };

struct PauseState {
  uint64_t issued_at = 0;  // Unix microseconds.
  PauseMode mode = PauseMode::kServing;
  bool sleeps = false;  // And lets memory go; until it serves, whatever pause comes meanwhile.
  friend bool operator==(const PauseState&, const PauseState&) = default;
};

class PauseRegister {
 public:
  PauseRegister() = default;
  // Serving, since `now` (Unix microseconds).
  [[nodiscard]] static StatusOr<PauseRegister> create(uint64_t now);
  // kInvalidArgument: not a register.
  [[nodiscard]] static StatusOr<PauseRegister> attach(UniqueFd fd);

  [[nodiscard]] int fd() const { return page_ ? page_->fd() : -1; }
  [[nodiscard]] PauseState get() const;
  // Asked for now, unless that is what it says already. What it says then.
  PauseState set(PauseMode mode, uint64_t now, bool sleeps = false);
  // The same, as if asked for after `issued_at`. What it says then.
  PauseState outbid(uint64_t issued_at);

 private:
  explicit PauseRegister(shm::Mapping page) : page_(std::move(page)) {}
  [[nodiscard]] uint64_t& word() const;

  std::optional<shm::Mapping> page_;
  mutable uint64_t own_word_ = 0;
};

}  // namespace trireme::api
