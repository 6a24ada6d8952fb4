#include "worker/kernels/cpu/kv_memory.h"

#include <cstring>

#include "common/check.h"
#include "worker/kernels/cpu/kernel_table.h"

namespace trireme::worker::cpu {
namespace {

uint64_t head_bytes(const KvLayout& layout) {
  const uint64_t scales = layout.element == Element::kInt8 ? 2 * sizeof(float) : 0;
  if (layout.value_size > 0) {
    return layout.block_tokens * (layout.head_size * element_bytes(layout.element) + scales);
  }
  const uint64_t v_columns =
      (layout.head_size + kKvChunkTokens - 1) / kKvChunkTokens * kKvChunkTokens;
  return layout.block_tokens *
         ((layout.head_size + v_columns) * element_bytes(layout.element) + scales);
}

Status check_sizes(const KvLayout& layout) {
  if (layout.value_size == 0) {
    if (layout.head_size % 2 == 0 && layout.head_size <= kAttentionHeadSizeMax) {
      return absl::OkStatus();
    }
    return error(StatusCode::kInvalidArgument,
                 "head_dim %d: the CPU backend takes even sizes up to %d", layout.head_size,
                 kAttentionHeadSizeMax);
  }
  const uint32_t rest_size = layout.head_size - layout.value_size;
  if (layout.value_size % kKvChunkTokens == 0 && rest_size % kKvChunkTokens == 0 &&
      layout.value_size <= kAttentionHeadSizeMax && layout.head_size <= kLatentKeySizeMax) {
    return absl::OkStatus();
  }
  return error(StatusCode::kInvalidArgument,
               "kv_lora_rank %d, qk_rope_head_dim %d: the CPU backend takes multiples of %d, the "
               "first up to %d and both together up to %d",
               layout.value_size, rest_size, kKvChunkTokens, kAttentionHeadSizeMax,
               kLatentKeySizeMax);
}

}  // namespace

uint64_t KvMemory::block_bytes(const KvLayout& layout) {
  return head_bytes(layout) * layout.kv_head_count * layout.layer_count;
}

StatusOr<KvMemory> KvMemory::allocate(const KvLayout& layout, uint32_t block_count) {
  if (layout.block_tokens == 0 || layout.block_tokens % kKvChunkTokens != 0) {
    return error(StatusCode::kInvalidArgument,
                 "--block-size %d: the CPU backend takes multiples of %d", layout.block_tokens,
                 kKvChunkTokens);
  }
  TRIREME_RETURN_IF_ERROR(check_sizes(layout));
  auto memory = HostMemory::allocate(block_bytes(layout) * block_count, "KV cache");
  if (!memory.ok()) return memory.status();
  KvMemory kv;
  kv.layout_ = layout;
  kv.block_count_ = block_count;
  kv.head_bytes_ = head_bytes(layout);
  kv.layer_bytes_ = kv.head_bytes_ * layout.kv_head_count;
  kv.memory_ = std::move(memory).value();
  return kv;
}

void KvMemory::copy_out(uint32_t block, std::span<std::byte> to) const {
  TRIREME_CHECK(block < block_count_ && to.size() >= layout_.layer_count * layer_bytes_,
                "the caller knows the blocks and their size");
  for (uint32_t layer = 0; layer < layout_.layer_count; ++layer) {
    std::memcpy(to.data() + layer * layer_bytes_, layer_part(layer, block), layer_bytes_);
  }
}

void KvMemory::copy_in(uint32_t block, std::span<const std::byte> from) {
  TRIREME_CHECK(block < block_count_ && from.size() >= layout_.layer_count * layer_bytes_,
                "the caller knows the blocks and their size");
  for (uint32_t layer = 0; layer < layout_.layer_count; ++layer) {
    std::memcpy(layer_part(layer, block), from.data() + layer * layer_bytes_, layer_bytes_);
  }
}

}  // namespace trireme::worker::cpu
