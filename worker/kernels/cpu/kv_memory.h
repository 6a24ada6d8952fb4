// KvMemory: the paged K and V of all layers, one region. A block's bytes of one layer and one head
// are contiguous; see kernel_table.h for the form inside. Threads: the owner's; kernels write
// disjoint slots.
#pragma once

#include "worker/device.h"
#include "worker/kernels/cpu/host_memory.h"

namespace trireme::worker::cpu {

class KvMemory {
 public:
  [[nodiscard]] static StatusOr<KvMemory> allocate(const KvLayout& layout, uint32_t block_count);
  // Of K and V of one block, all layers and heads.
  [[nodiscard]] static uint64_t block_bytes(const KvLayout& layout);

  KvMemory() = default;
  [[nodiscard]] const KvLayout& layout() const { return layout_; }
  [[nodiscard]] uint32_t block_count() const { return block_count_; }
  // Promised, and not written yet.
  [[nodiscard]] uint64_t untouched_bytes() const {
    return memory_.size() - std::min(memory_.size(), memory_.resident_bytes());
  }
  // The head's part of block 0; block b lies b · block_stride() further.
  [[nodiscard]] std::byte* head(uint32_t layer, uint32_t head) const {
    return memory_.data() + layer * layer_bytes_ * block_count_ + head * head_bytes_;
  }
  [[nodiscard]] uint64_t block_stride() const { return layer_bytes_; }

  // What is in it is lost; see HostMemory.
  void give_back() noexcept { memory_.give_back(); }

  // All that is in a block, block_bytes() of it, layer after layer.
  void copy_out(uint32_t block, std::span<std::byte> to) const;
  void copy_in(uint32_t block, std::span<const std::byte> from);

 private:
  [[nodiscard]] std::byte* layer_part(uint32_t layer, uint32_t block) const {
    return head(layer, 0) + block * layer_bytes_;
  }

  KvLayout layout_;
  uint32_t block_count_ = 0;
  uint64_t head_bytes_ = 0;   // Of one block.
  uint64_t layer_bytes_ = 0;  // Of one block.
  HostMemory memory_;
};

}  // namespace trireme::worker::cpu
