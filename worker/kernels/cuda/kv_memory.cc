#include "worker/kernels/cuda/kv_memory.h"

#include "common/check.h"
#include "worker/kernels/cuda/attention.h"
#include "worker/kernels/cuda/not_yet.h"

namespace trireme::worker::cuda {
namespace {

KvLayer layer_of(const KvLayout& layout) {
  return {.element = layout.element,
          .kv_head_count = layout.kv_head_count,
          .head_size = layout.head_size,
          .block_tokens = layout.block_tokens};
}

Status check(const KvLayout& layout) {
  if (layout.value_size > 0) return not_yet("latent attention");
  if (layout.head_size > kHeadSizeMax) {
    return not_yet(absl::StrFormat("head_dim %d, beyond %d,", layout.head_size, kHeadSizeMax));
  }
  if (layout.block_tokens == 0) {
    return error(StatusCode::kInvalidArgument, "--block-size 0: a block has at least one token");
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t KvMemory::block_bytes(const KvLayout& layout) {
  return layer_of(layout).block_bytes() * layout.layer_count;
}

StatusOr<KvMemory> KvMemory::allocate(const KvLayout& layout, uint32_t block_count) {
  TRIREME_RETURN_IF_ERROR(check(layout));
  KvMemory kv;
  kv.layout_ = layout;
  kv.block_count_ = block_count;
  TRIREME_RETURN_IF_ERROR(kv.take_back());
  return kv;
}

Status KvMemory::take_back() {
  if (memory_.data() != nullptr || block_count_ == 0) return absl::OkStatus();
  TRIREME_ASSIGN_OR_RETURN(
      memory_, DeviceBuffer::allocate(block_bytes(layout_) * block_count_, "the KV cache"));
  return absl::OkStatus();
}

KvLayer KvMemory::layer(uint32_t index) const {
  KvLayer layer = layer_of(layout_);
  layer.data = memory_.data() + layer.block_bytes() * block_count_ * index;
  return layer;
}

void KvMemory::queue_copy_out(uint32_t block, std::span<std::byte> to, Queue& queue) const {
  TRIREME_CHECK(block < block_count_ && to.size() >= block_bytes(layout_),
                "the caller knows the blocks and their size");
  for (uint32_t i = 0; i < layout_.layer_count; ++i) {
    const KvLayer from = layer(i);
    const uint64_t bytes = from.block_bytes();
    queue_copy(to.data() + i * bytes, from.data + block * bytes, bytes, queue);
  }
}

void KvMemory::queue_copy_in(uint32_t block, std::span<const std::byte> from, Queue& queue) {
  TRIREME_CHECK(block < block_count_ && from.size() >= block_bytes(layout_),
                "the caller knows the blocks and their size");
  for (uint32_t i = 0; i < layout_.layer_count; ++i) {
    const KvLayer to = layer(i);
    const uint64_t bytes = to.block_bytes();
    queue_copy(to.data + block * bytes, from.data() + i * bytes, bytes, queue);
  }
}

}  // namespace trireme::worker::cuda
