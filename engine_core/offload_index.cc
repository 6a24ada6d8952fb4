#include "engine_core/offload_index.h"

#include "common/check.h"

namespace trireme::engine {

OffloadIndex::OffloadIndex(uint32_t slot_count) : slots_(slot_count), put_by_(slot_count) {}

std::optional<uint32_t> OffloadIndex::find(const BlockHash& hash) const {
  const auto slot = slots_.find(hash);
  if (!slot) return std::nullopt;
  return static_cast<uint32_t>(slot->value);
}

void OffloadIndex::pin(uint32_t slot) {
  slots_.share(as_block(slot));
  pinned_.push_back(slot);
}

void OffloadIndex::unpin_all() {
  for (const uint32_t slot : pinned_) slots_.release(as_block(slot));
  pinned_.clear();
}

std::optional<uint32_t> OffloadIndex::put(const BlockHash& hash, StepId step) {
  if (const auto there = slots_.find(hash)) {
    slots_.share(*there);
    slots_.release(*there);
    return std::nullopt;
  }
  const auto slot = slots_.allocate();
  if (!slot) return std::nullopt;
  TRIREME_CHECK(slots_.cache(*slot, hash), "it was not found above");
  slots_.release(*slot);
  put_by_[static_cast<std::size_t>(slot->value)] = step;
  return static_cast<uint32_t>(slot->value);
}

void OffloadIndex::erase(const BlockHash& hash) {
  if (const auto slot = slots_.find(hash)) slots_.forget(*slot);
}

void OffloadIndex::erase_since(StepId step) {
  for (uint32_t slot = 0; slot < put_by_.size(); ++slot) {
    if (put_by_[slot] >= step) erase(slot);
  }
}

void OffloadIndex::clear() {
  unpin_all();
  TRIREME_CHECK(slots_.reset_cache(), "nothing is pinned");
}

}  // namespace trireme::engine
