// KvStore: what lies behind a worker's KV memory: slots of one block each, in host memory or in a
// file. The engine says what goes where (StepInput: save_blocks, load_blocks, ...).
//
// The file has no name, so that it is gone with the process, however that ends. It grows as slots
// are used, and what is read from it is checked against a checksum in memory. A save or a load that
// fails is told to the engine and harms nothing else. Threads: the worker's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "proto/step.h"
#include "worker/models/model.h"

namespace trireme::worker {

class KvStore {
 public:
  virtual ~KvStore() = default;

  // Where a block is to be written for the slot, until end_save().
  [[nodiscard]] virtual std::span<std::byte> begin_save(uint32_t slot) = 0;
  [[nodiscard]] virtual Status end_save(uint32_t slot) = 0;
  // What was saved there; valid until the next call.
  [[nodiscard]] virtual StatusOr<std::span<const std::byte>> load(uint32_t slot) = 0;

 protected:
  KvStore() = default;
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;
};

struct KvStoreOptions {
  std::string directory;  // Of the file; empty: memory.
  uint32_t slot_count = 0;
  uint64_t slot_bytes = 0;
  uint32_t sharers = 1;           // Stores of this size on this node.
  uint64_t memory_available = 0;  // For all of them.
};

// kResourceExhausted with the size and what there is of memory or free disk, when that is less.
[[nodiscard]] StatusOr<std::unique_ptr<KvStore>> open_kv_store(const KvStoreOptions& options);

// The moves of steps between the KV memory of a worker's models and a store: a slot holds what they
// have in the block, one after the other.
class BlockMoves {
 public:
  struct Limits {
    uint32_t block_count = 0;
    uint32_t slot_count = 0;  // 0: no store, and no moves.
  };
  BlockMoves(const Limits& limits, std::unique_ptr<KvStore> store)
      : limits_(limits), store_(std::move(store)), is_held_(limits.slot_count, false) {}

  // The slots that were lost, and the loads that failed, are added to `result`. Not OK: the step
  // breaks the protocol.
  [[nodiscard]] Status apply(const wire::StepInput& step, std::span<Model* const> models,
                             wire::StepResult& result);

 private:
  [[nodiscard]] Status check(const wire::StepInput& step) const;
  [[nodiscard]] Status save(uint32_t slot, uint32_t block, std::span<Model* const> models);
  [[nodiscard]] Status load(uint32_t slot, uint32_t block, std::span<Model* const> models);

  Limits limits_;
  std::unique_ptr<KvStore> store_;
  std::vector<bool> is_held_;  // By slot: something is there.
};

}  // namespace trireme::worker
