// KvMemory: the KV cache of all layers in device memory; kv_cache.h says how it lies there. A
// block's bytes of all layers, one after the other, are its form on the host. Threads: the owner's.
#pragma once

#include <span>

#include "worker/device.h"
#include "worker/kernels/cuda/kv_cache.h"
#include "worker/kernels/cuda/runtime.h"

namespace trireme::worker::cuda {

class KvMemory {
 public:
  // kUnimplemented: what the kernels cannot do yet, with --device cpu as the way out.
  [[nodiscard]] static StatusOr<KvMemory> allocate(const KvLayout& layout, uint32_t block_count);
  [[nodiscard]] static uint64_t block_bytes(const KvLayout& layout);

  KvMemory() = default;
  [[nodiscard]] const KvLayout& layout() const { return layout_; }
  [[nodiscard]] uint32_t block_count() const { return block_count_; }  // 0: never allocated.
  [[nodiscard]] KvLayer layer(uint32_t index) const;

  [[nodiscard]] bool is_there() const { return memory_.data() != nullptr; }
  // What is in it is lost, and the memory is the system's until it is taken back.
  void give_back() { memory_ = DeviceBuffer(); }
  [[nodiscard]] Status take_back();

  void queue_copy_out(uint32_t block, std::span<std::byte> to, Queue& queue) const;
  void queue_copy_in(uint32_t block, std::span<const std::byte> from, Queue& queue);

 private:
  KvLayout layout_;
  uint32_t block_count_ = 0;
  DeviceBuffer memory_;
};

}  // namespace trireme::worker::cuda
