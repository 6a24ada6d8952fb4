#include "api_server/counters/counter_board.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace trireme::api {
namespace {

constexpr uint64_t kMagic = 0x3130647262637274;  // "trcbrd01"
constexpr std::size_t kHeaderWords = 3;          // Magic, slots, words of a slot.
constexpr std::size_t kSlotHeaderWords = 2;      // Sequence (odd: being written), count.
// A writer is at it for a microsecond; one that was killed meanwhile is never done.
constexpr int kReadTries = 1000;

uint64_t load(uint64_t& word) {
  return std::atomic_ref<uint64_t>(word).load(std::memory_order_acquire);
}
void store(uint64_t& word, uint64_t value) {
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
}

std::span<uint64_t> words_of(const shm::Mapping& mapping) {
  const std::span<std::byte> bytes = mapping.bytes();
  return {reinterpret_cast<uint64_t*>(bytes.data()), bytes.size() / sizeof(uint64_t)};
}

}  // namespace

CounterBoard::CounterBoard(shm::Mapping mapping, uint32_t slots, std::size_t words, uint32_t slot)
    : mapping_(std::move(mapping)), slots_(slots), words_max_(words), slot_(slot) {
  base_ = read(slot_);
}

StatusOr<CounterBoard> CounterBoard::create(uint32_t slots, std::size_t words) {
  const std::size_t total = kHeaderWords + slots * (kSlotHeaderWords + words);
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping mapping,
                           shm::Mapping::create("trireme-counters", total * sizeof(uint64_t)));
  const std::span<uint64_t> all = words_of(mapping);
  all[0] = kMagic;
  all[1] = slots;
  all[2] = words;
  return CounterBoard(std::move(mapping), slots, words, 0);
}

StatusOr<CounterBoard> CounterBoard::attach(UniqueFd fd, uint32_t slot) {
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping mapping, shm::Mapping::attach(std::move(fd)));
  const std::span<uint64_t> all = words_of(mapping);
  if (all.size() < kHeaderWords || all[0] != kMagic || slot >= all[1] ||
      all.size() < kHeaderWords + all[1] * (kSlotHeaderWords + all[2])) {
    return error(StatusCode::kInvalidArgument,
                 "--internal-counters-fd: not a counter board with a slot %u", slot);
  }
  const auto slots = static_cast<uint32_t>(all[1]);
  const std::size_t words = all[2];
  return CounterBoard(std::move(mapping), slots, words, slot);
}

std::span<uint64_t> CounterBoard::slot_words(uint32_t slot) const {
  const std::size_t size = kSlotHeaderWords + words_max_;
  return words_of(mapping_).subspan(kHeaderWords + slot * size, size);
}

void CounterBoard::write(std::span<const uint64_t> words) {
  const std::span<uint64_t> slot = slot_words(slot_);
  const std::size_t count = std::min(words.size(), words_max_);
  // Odd also after a life that was killed while it wrote.
  const uint64_t sequence = load(slot[0]) | 1;
  store(slot[0], sequence);
  store(slot[1], count);
  for (std::size_t i = 0; i < count; ++i) store(slot[kSlotHeaderWords + i], words[i]);
  store(slot[0], sequence + 1);
}

std::vector<uint64_t> CounterBoard::read(uint32_t slot) const {
  const std::span<uint64_t> from = slot_words(slot);
  std::vector<uint64_t> words;
  for (int tries = 0; tries < kReadTries; ++tries) {
    const uint64_t sequence = load(from[0]);
    words.resize(std::min<std::size_t>(load(from[1]), words_max_));
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = load(from[kSlotHeaderWords + i]);
    if (sequence % 2 == 0 && load(from[0]) == sequence) break;
  }
  return words;
}

}  // namespace trireme::api
