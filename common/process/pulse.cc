#include "common/process/pulse.h"

#include <charconv>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace trireme::process {
namespace {

using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free);

Word& word_in(const shm::Mapping& memory) {
  return *std::launder(reinterpret_cast<Word*>(memory.bytes().data()));
}

}  // namespace

Pulse::Pulse(std::shared_ptr<const shm::Mapping> memory)
    : memory_(std::move(memory)), beats_(&word_in(*memory_)) {}

StatusOr<Pulse> Pulse::take_inherited() {
  const char* const given = std::getenv(kPulseVariable);
  if (given == nullptr) return Pulse();
  const std::string text = given;
  ::unsetenv(kPulseVariable);
  int fd = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), fd);
  const bool is_number = code == std::errc() && end == text.data() + text.size() && fd >= 0;
  auto memory = is_number ? shm::Mapping::attach(UniqueFd(fd))
                          : error(StatusCode::kInvalidArgument, "no descriptor");
  if (memory.ok() && memory->bytes().size() < sizeof(Word)) {
    memory = error(StatusCode::kInvalidArgument, "no room for a sign of life");
  }
  if (!memory.ok()) {
    return error(StatusCode::kInvalidArgument,
                 "%s=%s: %s; start the program with the parent that set it, or unset it",
                 kPulseVariable, text, memory.status().message());
  }
  return Pulse(std::make_shared<shm::Mapping>(*std::move(memory)));
}

StatusOr<PulsePage> PulsePage::create() {
  TRIREME_ASSIGN_OR_RETURN(auto memory, shm::Mapping::create("trireme-pulse", sizeof(Word)));
  return PulsePage(std::move(memory));
}

Word& PulsePage::word() const { return word_in(memory_); }

}  // namespace trireme::process
