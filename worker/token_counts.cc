#include "worker/token_counts.h"

#include <algorithm>

#include "common/random.h"

namespace trireme::worker {

void TokenCounts::clear() {
  entries_.clear();
  prompt_entries_ = 0;
  std::fill(table_.begin(), table_.end(), 0);
}

// Who came in last may leave its place empty: nobody was put behind it for finding it taken.
void TokenCounts::take_back_output(int32_t token) {
  uint32_t& index = table_[place_of(token)];
  if (--entries_[index - 1].output_count > 0 || index <= prompt_entries_) return;
  entries_.pop_back();
  index = 0;
}

std::size_t TokenCounts::place_of(int32_t token) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t place = mix64(static_cast<uint32_t>(token)) & mask;
  while (table_[place] != 0 && entries_[table_[place] - 1].token != token) {
    place = (place + 1) & mask;
  }
  return place;
}

void TokenCounts::grow() {
  constexpr std::size_t kFirst = 64;
  table_.assign(std::max(kFirst, table_.size() * 2), 0);
  for (uint32_t i = 0; i < entries_.size(); ++i) table_[place_of(entries_[i].token)] = i + 1;
}

TokenCounts::Entry& TokenCounts::entry_of(int32_t token) {
  if (entries_.size() * 2 >= table_.size()) grow();
  uint32_t& index = table_[place_of(token)];
  if (index == 0) {
    entries_.push_back({.token = token});
    index = static_cast<uint32_t>(entries_.size());
  }
  return entries_[index - 1];
}

}  // namespace trireme::worker
