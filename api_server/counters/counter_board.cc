#include "api_server/counters/counter_board.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace trireme::api {
namespace {

constexpr uint64_t kMagic = 0x3230647262637274;  // "trcbrd02"
constexpr std::size_t kHeaderWords = 3;          // Magic, slots, words of a slot.
// A slot: how often it was written, and two pages (count, words). Write n goes to page n % 2, while
// readers are at the other one: a writer that is stopped or killed in the middle harms nobody.
constexpr std::size_t kPages = 2;
constexpr int kReadTries = 1000;  // Two writes during a read are rare; that often never happens.

constexpr std::size_t slot_size(std::size_t words) { return 1 + kPages * (1 + words); }

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
  const std::size_t total = kHeaderWords + slots * slot_size(words);
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
      all.size() < kHeaderWords + all[1] * slot_size(all[2])) {
    return error(StatusCode::kInvalidArgument,
                 "--internal-counters-fd: not a counter board with a slot %u", slot);
  }
  const auto slots = static_cast<uint32_t>(all[1]);
  const std::size_t words = all[2];
  return CounterBoard(std::move(mapping), slots, words, slot);
}

std::span<uint64_t> CounterBoard::slot_words(uint32_t slot) const {
  const std::size_t size = slot_size(words_max_);
  return words_of(mapping_).subspan(kHeaderWords + slot * size, size);
}

void CounterBoard::write(std::span<const uint64_t> words) {
  uint64_t& written = slot_words(slot_)[0];
  const uint64_t number = load(written) + 1;
  const std::span<uint64_t> page = page_of(slot_, number);
  const std::size_t count = std::min(words.size(), words_max_);
  store(page[0], count);
  for (std::size_t i = 0; i < count; ++i) store(page[1 + i], words[i]);
  store(written, number);
}

std::span<uint64_t> CounterBoard::page_of(uint32_t slot, uint64_t number) const {
  const std::size_t size = 1 + words_max_;
  return slot_words(slot).subspan(1 + number % kPages * size, size);
}

std::vector<uint64_t> CounterBoard::read(uint32_t slot) const {
  uint64_t& written = slot_words(slot)[0];
  std::vector<uint64_t> words;
  for (int tries = 0; tries < kReadTries; ++tries) {
    const uint64_t number = load(written);
    const std::span<uint64_t> page = page_of(slot, number);
    words.resize(std::min<std::size_t>(load(page[0]), words_max_));
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = load(page[1 + i]);
    if (load(written) == number) break;  // Else the next but one may have begun on this page.
  }
  return words;
}

}  // namespace trireme::api
