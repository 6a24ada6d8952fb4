// A store behind KV memory, in memory.
#pragma once

#include <memory>

#include "worker/kv_store.h"

namespace trireme::worker {

// As WorkerParts::OpenStore.
[[nodiscard]] inline StatusOr<std::unique_ptr<KvStore>> open_store_for_test(uint32_t slot_count,
                                                                            uint64_t slot_bytes,
                                                                            uint64_t /*kv_bytes*/) {
  return open_kv_store(
      {.slot_count = slot_count, .slot_bytes = slot_bytes, .memory_available = uint64_t{1} << 30});
}

}  // namespace trireme::worker
