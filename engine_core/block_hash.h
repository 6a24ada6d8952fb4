// BlockHash: the name of a full KV block's content: all tokens up to its end, and the cache salt.
//
//   root(salt) ─▶ chain(root, tokens of block 0) ─▶ chain(hash 0, tokens of block 1) ─▶ ...
//
// Two blocks with equal hashes are taken to hold equal KV, without comparing tokens. The hash is
// XXH3-128 under a secret key of 192 random bytes: an accidental collision among 2^32 blocks has a
// probability below 2^-64, and who does not know the key cannot search for one. XXH3 is no
// cryptographic hash, so the key must not leave the cluster, and it is drawn anew with each engine.
// (SHA-256 would need no key; it costs about 30 times as much per block.)
//
// Pure; const calls from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace trireme::engine {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const BlockHash&, const BlockHash&) = default;
};

using BlockHashKey = std::array<uint64_t, 24>;

class BlockHasher {
 public:
  explicit BlockHasher(const BlockHashKey& key) : key_(key) {}

  // Requests of different salts share no block.
  [[nodiscard]] BlockHash root(std::string_view salt) const;
  [[nodiscard]] BlockHash chain(const BlockHash& parent, std::span<const int32_t> tokens) const;

 private:
  BlockHashKey key_;
};

}  // namespace trireme::engine
