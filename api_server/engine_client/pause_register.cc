#include "api_server/engine_client/pause_register.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace trireme::api {
namespace {

constexpr uint64_t kMagic = 0x3230657375617074;  // "tpause02"
constexpr std::size_t kPageWords = 2;            // Magic, and the word: see pack().

uint64_t* words_of(const shm::Mapping& page) {
  return reinterpret_cast<uint64_t*>(page.bytes().data());
}

PauseState unpack(uint64_t word) {
  return {
      .issued_at = word / 8, .mode = static_cast<PauseMode>(word % 4), .sleeps = word / 4 % 2 == 1};
}

uint64_t pack(const PauseState& state) {
  return state.issued_at * 8 + (state.sleeps ? 4 : 0) + static_cast<uint64_t>(state.mode);
}

}  // namespace

StatusOr<PauseRegister> PauseRegister::create(uint64_t now) {
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping page,
                           shm::Mapping::create("trireme-pause", kPageWords * sizeof(uint64_t)));
  words_of(page)[0] = kMagic;
  words_of(page)[1] = pack({.issued_at = now});
  return PauseRegister(std::move(page));
}

StatusOr<PauseRegister> PauseRegister::attach(UniqueFd fd) {
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping page, shm::Mapping::attach(std::move(fd)));
  if (page.bytes().size() < kPageWords * sizeof(uint64_t) || words_of(page)[0] != kMagic) {
    return error(StatusCode::kInvalidArgument, "--internal-pause-fd: not a pause register");
  }
  return PauseRegister(std::move(page));
}

uint64_t& PauseRegister::word() const { return page_ ? words_of(*page_)[1] : own_word_; }

PauseState PauseRegister::get() const {
  return unpack(std::atomic_ref<uint64_t>(word()).load(std::memory_order_acquire));
}

PauseState PauseRegister::set(PauseMode mode, uint64_t now, bool sleeps) {
  std::atomic_ref<uint64_t> shared(word());
  uint64_t seen = shared.load(std::memory_order_acquire);
  while (true) {
    const PauseState state = unpack(seen);
    const PauseState wanted{.issued_at = std::max(state.issued_at + 1, now),
                            .mode = mode,
                            .sleeps = mode != PauseMode::kServing && (sleeps || state.sleeps)};
    if (wanted.mode == state.mode && wanted.sleeps == state.sleeps) return state;
    if (shared.compare_exchange_weak(seen, pack(wanted), std::memory_order_acq_rel)) return wanted;
  }
}

PauseState PauseRegister::outbid(uint64_t issued_at) {
  std::atomic_ref<uint64_t> shared(word());
  uint64_t seen = shared.load(std::memory_order_acquire);
  while (true) {
    PauseState state = unpack(seen);
    if (state.issued_at > issued_at) return state;
    state.issued_at = issued_at + 1;
    if (shared.compare_exchange_weak(seen, pack(state), std::memory_order_acq_rel)) return state;
  }
}

}  // namespace trireme::api
