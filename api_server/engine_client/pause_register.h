// PauseRegister: whether the engines are to be paused, one word that all front ends of a node
// share.
//
//   launcher     create()                   children inherit the fd
//   api-server   attach(fd)                 get(), set(mode)
//
// The word outlives each front end, so a life that follows another knows what was asked of that
// one, and an engine that comes up is told the same by all. Each change has a number of its own,
// and numbers only grow: of two front ends that disagree, the one with the older number is wrong.
// Who makes none of both has a word for itself (tests).
// Threads and processes: any number read and write.
#pragma once

#include <cstdint>
#include <optional>

#include "common/shm/mapping.h"
#include "common/status.h"

namespace trireme::api {

enum class PauseMode : uint8_t { kServing = 0, kAbort = 1, kWait = 2, kKeep = 3 };

struct PauseState {
  uint64_t number = 0;
  PauseMode mode = PauseMode::kServing;
  friend bool operator==(const PauseState&, const PauseState&) = default;
};

class PauseRegister {
 public:
  PauseRegister() = default;
  [[nodiscard]] static StatusOr<PauseRegister> create();
  // kInvalidArgument: not a register.
  [[nodiscard]] static StatusOr<PauseRegister> attach(UniqueFd fd);

  [[nodiscard]] int fd() const { return page_ ? page_->fd() : -1; }
  [[nodiscard]] PauseState get() const;
  // A new number, unless `mode` is what it says already.
  void set(PauseMode mode);

 private:
  explicit PauseRegister(shm::Mapping page) : page_(std::move(page)) {}
  [[nodiscard]] uint64_t& word() const;

  std::optional<shm::Mapping> page_;
  mutable uint64_t own_word_ = 0;
};

}  // namespace trireme::api
