// HashModel: a Model whose logits are a hash of all tokens before, kept in KV memory by block: a
// wrong block table, a position computed twice or a cut that matters gives other tokens.
// With few `choices` for the most likely token, texts repeat themselves. Models of another `salt`
// give other logits.
// Two stages of it pass the hash as hidden rows (first stage: token + position; last: the rest).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/random.h"
#include "worker/models/model.h"

namespace trireme::worker {

class HashModel final : public Model {
 public:
  static constexpr uint32_t kVocabulary = 50;
  static constexpr int32_t kPoison = 49;  // A prompt that ends with it gets NaN.

  explicit HashModel(bool is_first = true, bool is_last = true, uint32_t choices = kVocabulary - 1,
                     uint64_t salt = 0)
      : is_first_(is_first), is_last_(is_last), choices_(choices), salt_(salt) {}

  [[nodiscard]] uint64_t weight_bytes() const override { return 1000; }
  [[nodiscard]] uint32_t vocabulary_size() const override { return kVocabulary; }
  [[nodiscard]] uint32_t hidden_size() const override { return 2; }
  [[nodiscard]] KvShape kv_shape() const override { return {kBlockTokens, 64}; }

  [[nodiscard]] Status allocate_kv(uint32_t block_count) override {
    kv_.assign(std::size_t{block_count} * kBlockTokens, 0);
    return absl::OkStatus();
  }

  void release_kv() override { std::fill(kv_.begin(), kv_.end(), 0); }
  void copy_block_out(uint32_t block, std::span<std::byte> to) const override {
    std::memcpy(to.data(), &kv_[std::size_t{block} * kBlockTokens], kBlockTokens * sizeof(kv_[0]));
  }
  void copy_block_in(uint32_t block, std::span<const std::byte> from) override {
    std::memcpy(&kv_[std::size_t{block} * kBlockTokens], from.data(),
                kBlockTokens * sizeof(kv_[0]));
  }

  [[nodiscard]] Status forward(const ForwardBatch& batch, std::span<const float> hidden_in,
                               std::span<float> hidden_out, std::span<float> logits) override {
    forward_sizes.push_back(batch.logits_tokens.size());
    std::size_t logits_row = 0;
    for (const ForwardRow& row : batch.rows) {
      for (uint32_t i = 0; i < row.token_count; ++i) {
        const uint32_t token = row.token_begin + i;
        const uint64_t hash = compute(batch, row, i, hidden_in);
        if (!is_last_) {
          hidden_out[2 * token] = static_cast<float>(batch.tokens[token]);
          hidden_out[2 * token + 1] = static_cast<float>(row.start + i);
        }
        const bool is_wanted =
            logits_row < batch.logits_tokens.size() && batch.logits_tokens[logits_row] == token;
        if (!is_wanted) continue;
        fill(hash ^ salt_, batch.tokens[token],
             logits.subspan(logits_row * kVocabulary, kVocabulary));
        ++logits_row;
      }
    }
    return absl::OkStatus();
  }

  // The token that greedy sampling gives after `tokens`.
  [[nodiscard]] static int32_t next_after(std::span<const int32_t> tokens) {
    uint64_t hash = 0;
    for (const int32_t token : tokens) hash = mix64(hash ^ static_cast<uint64_t>(token));
    return static_cast<int32_t>(hash % (kVocabulary - 1));
  }

  std::vector<std::size_t> forward_sizes;  // Rows of logits of each forward so far.

 private:
  static constexpr uint32_t kBlockTokens = 4;

  uint64_t& kv(const ForwardRow& row, uint32_t position) {
    const auto block = static_cast<std::size_t>(row.blocks[position / kBlockTokens]);
    return kv_[block * kBlockTokens + position % kBlockTokens];
  }

  uint64_t compute(const ForwardBatch& batch, const ForwardRow& row, uint32_t i,
                   std::span<const float> hidden_in) {
    const uint32_t position = row.start + i;
    const uint64_t before = position == 0 ? 0 : kv(row, position - 1);
    auto token = static_cast<uint64_t>(batch.tokens[row.token_begin + i]);
    if (!is_first_) token = static_cast<uint64_t>(hidden_in[2 * (row.token_begin + i)]);
    return kv(row, position) = mix64(before ^ token);
  }

  void fill(uint64_t hash, int32_t token, std::span<float> logits) const {
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] = static_cast<float>(mix64(hash + i) % 1000) / 1000;
    }
    logits[hash % choices_] = 3;
    if (token == kPoison) logits[7] = std::numeric_limits<float>::quiet_NaN();
  }

  bool is_first_;
  bool is_last_;
  uint32_t choices_;
  uint64_t salt_;
  std::vector<uint64_t> kv_;
};

}  // namespace trireme::worker
