// OffloadIndex: which blocks' contents lie in which slot of the store behind the KV cache.
//
//   put(hash) ─▶ slot ── find(hash) ─▶ pin() ── unpin_all() ─▶ most recently used
//                  └ the least recently used slot gives way to another content; a pinned one never
//
// A content stays in the store when it is loaded, so that it need not be saved again when its block
// is needed for something else. A slot is pinned from the moment its load is planned until the step
// is made, as within a step saves come before loads.
//
// Every call but erase_since(), unpin_all() and clear() is O(1). Pure; one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/id.h"
#include "engine_core/block_hash.h"
#include "engine_core/block_pool.h"

namespace trireme::engine {

class OffloadIndex {
 public:
  explicit OffloadIndex(uint32_t slot_count);

  [[nodiscard]] std::optional<uint32_t> find(const BlockHash& hash) const;
  void pin(uint32_t slot);
  void unpin_all();
  // The slot that this content goes to, planned for `step`. Nothing when it lies in one already,
  // which counts as used now, or when all slots are pinned.
  [[nodiscard]] std::optional<uint32_t> put(const BlockHash& hash, StepId step);
  // Nothing is in the slot any more.
  void erase(uint32_t slot) { slots_.forget(as_block(slot)); }
  void erase(const BlockHash& hash);
  // What was put there by this step or a later one.
  void erase_since(StepId step);
  void clear();

  [[nodiscard]] uint32_t slot_count() const { return slots_.block_count(); }
  [[nodiscard]] uint32_t used_count() const { return slots_.cached_count(); }
  // For tests: O(slot_count).
  void check_invariants() const { slots_.check_invariants(); }

 private:
  static BlockId as_block(uint32_t slot) { return BlockId{static_cast<int32_t>(slot)}; }

  BlockPool slots_;
  std::vector<StepId> put_by_;  // By slot.
  std::vector<uint32_t> pinned_;
};

}  // namespace trireme::engine
