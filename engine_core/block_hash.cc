#include "engine_core/block_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

#include "common/check.h"

namespace trireme::engine {
namespace {

constexpr std::size_t kBlockTokensMax = 1024;

BlockHash hash(std::span<const std::byte> bytes, const BlockHashKey& key) {
  const XXH128_hash_t value =
      XXH3_128bits_withSecret(bytes.data(), bytes.size(), key.data(), sizeof(key));
  return {value.low64, value.high64};
}

}  // namespace

static_assert(sizeof(BlockHashKey) >= XXH3_SECRET_SIZE_MIN);

BlockHash BlockHasher::root(std::string_view salt) const {
  return hash(std::as_bytes(std::span(salt)), key_);
}

BlockHash BlockHasher::chain(const BlockHash& parent, std::span<const int32_t> tokens) const {
  std::array<std::byte, sizeof(BlockHash) + kBlockTokensMax * sizeof(int32_t)> bytes;
  TRIREME_CHECK(tokens.size() <= kBlockTokensMax, "--block-size is checked at start");
  std::memcpy(bytes.data(), &parent, sizeof(parent));
  std::memcpy(bytes.data() + sizeof(parent), tokens.data(), tokens.size_bytes());
  return hash(std::span(bytes).first(sizeof(parent) + tokens.size_bytes()), key_);
}

}  // namespace trireme::engine
