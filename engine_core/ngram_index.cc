#include "engine_core/ngram_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/random.h"

namespace trireme::engine {
namespace {

// Backwards from `end`, so that one pass gives the hashes of all lengths.
uint64_t prepend(uint64_t hash, int32_t token) {
  return mix64(hash ^ (static_cast<uint64_t>(static_cast<uint32_t>(token)) + 1));
}

uint64_t hash_of(std::span<const int32_t> tokens, uint32_t end, uint32_t length) {
  uint64_t hash = 0;
  for (uint32_t i = 1; i <= length; ++i) hash = prepend(hash, tokens[end - i]);
  return hash;
}

}  // namespace

std::optional<uint32_t> NgramIndex::find(std::span<const int32_t> tokens,
                                         const NgramBounds& bounds) {
  const auto size = static_cast<uint32_t>(tokens.size());
  if (size <= bounds.shortest) return std::nullopt;
  make_room(tokens, bounds);
  // Those at the very end have nothing after them yet.
  while (entered_ + 1 < size) enter(tokens, ++entered_, bounds);
  const uint32_t longest = std::min(bounds.longest, size - 1);
  for (uint32_t length = longest; length >= bounds.shortest; --length) {
    const Entry& entry = place_of(tokens, size, length, hash_of(tokens, size, length));
    if (entry.length != 0) return entry.end;
  }
  return std::nullopt;
}

void NgramIndex::enter(std::span<const int32_t> tokens, uint32_t end, const NgramBounds& bounds) {
  uint64_t hash = 0;
  for (uint32_t length = 1; length <= std::min(bounds.longest, end); ++length) {
    hash = prepend(hash, tokens[end - length]);
    if (length < bounds.shortest) continue;
    Entry& entry = place_of(tokens, end, length, hash);
    if (entry.length != 0) continue;
    entry = {length, end};
    ++used_;
  }
}

// For all of `tokens` at once: a long prompt comes whole.
void NgramIndex::make_room(std::span<const int32_t> tokens, const NgramBounds& bounds) {
  constexpr std::size_t kFirst = 64;
  const std::size_t most =
      used_ + (tokens.size() - entered_) * (bounds.longest - bounds.shortest + 1);
  if (most * 2 <= table_.size()) return;
  const std::vector<Entry> old = std::exchange(table_, {});
  table_.resize(std::max(kFirst, std::bit_ceil(most * 2)));
  for (const Entry& entry : old) {
    if (entry.length == 0) continue;
    place_of(tokens, entry.end, entry.length, hash_of(tokens, entry.end, entry.length)) = entry;
  }
}

NgramIndex::Entry& NgramIndex::place_of(std::span<const int32_t> tokens, uint32_t end,
                                        uint32_t length, uint64_t hash) {
  const auto wanted = tokens.subspan(end - length, length);
  for (std::size_t place = hash;; ++place) {
    Entry& entry = table_[place & (table_.size() - 1)];
    if (entry.length == 0) return entry;
    if (entry.length != length) continue;
    if (std::ranges::equal(tokens.subspan(entry.end - length, length), wanted)) return entry;
  }
}

}  // namespace trireme::engine
