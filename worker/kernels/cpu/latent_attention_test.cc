// Goal: attention over a latent cache is the reference's over what is stored, each kind of KV keeps
// what it says, a token's bits depend on no other, and products head by head are products.
// Tolerance: 4e-6 of the largest value; tiles round queries and weights to bf16, each weight by
// 2^-9 of itself at most. int8 is off by half a step of its row.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/kernels/reference/reference.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint32_t kValueSize = 80;  // One whole run of 64 columns and one of 16.
constexpr uint32_t kRestSize = 16;
constexpr uint32_t kKeySize = kValueSize + kRestSize;
constexpr uint32_t kHeads = 18;  // More than an item holds.
constexpr uint32_t kTokens = kAttentionSpanTokens + 37;
constexpr float kScale = 0.2F;

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

View view_of(std::vector<float>& values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  return {values.data(), rows, columns, columns};
}

struct Case {
  const KernelTable* kernels;
  Element element;  // Of the cache.
};

class LatentAttention : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    std::iota(positions_.begin(), positions_.end(), 0);
    for (uint32_t i = 0; i <= kTokens / 16; ++i)
      blocks_.push_back(static_cast<int32_t>(i * 7 % 37));
    ASSERT_TRUE(device_
                    .allocate_kv({.element = GetParam().element,
                                  .layer_count = 2,
                                  .kv_head_count = 1,
                                  .head_size = kKeySize,
                                  .value_size = kValueSize},
                                 37)
                    .ok());
  }

  // Some tokens of one sequence, by chunks; rows are what is kept: [value | rest].
  [[nodiscard]] std::vector<float> run(std::vector<float> rows, uint32_t count, uint32_t chunk) {
    std::vector<float> all;
    for (uint32_t begin = 0; begin < count; begin += chunk) {
      const uint32_t tokens = std::min(chunk, count - begin);
      const ForwardRow row{.token_count = tokens, .start = begin, .blocks = blocks_};
      const ForwardBatch batch{.tokens = std::span(positions_).subspan(begin, tokens),
                               .positions = std::span(positions_).subspan(begin, tokens),
                               .rows = std::span(&row, 1)};
      const View kept = view_of(rows, kTokens).rows(begin, tokens);
      std::vector<float> out(std::size_t{tokens} * kHeads * kValueSize);
      device_.begin_step(batch, {});
      device_.append_latent(1, kept.columns(0, kValueSize), kept.columns(kValueSize, kRestSize));
      device_.attend_latent(1, kHeads, kScale, view_of(q_, kTokens).rows(begin, tokens),
                            view_of(q_rest_, kTokens).rows(begin, tokens), view_of(out, tokens));
      EXPECT_TRUE(device_.end_step().ok());
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }

  // What a row becomes in the cache.
  [[nodiscard]] std::vector<float> stored(const std::vector<float>& rows) const {
    if (GetParam().element == Element::kFloat32) return rows;
    if (GetParam().element == Element::kBfloat16) return reference::rounded_to_bfloat16(rows);
    std::vector<float> out = rows;
    for (std::size_t begin = 0; begin < rows.size();) {
      const std::size_t count = begin % kKeySize == 0 ? kValueSize : kRestSize;
      float largest = 0;
      for (std::size_t i = begin; i < begin + count; ++i) {
        largest = std::max(largest, std::abs(rows[i]));
      }
      for (std::size_t i = begin; i < begin + count; ++i) {
        out[i] = std::nearbyint(rows[i] * (127.0F / largest)) * (largest / 127.0F);
      }
      begin += count;
    }
    return out;
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{Element::kFloat32, pool_, solo_, *GetParam().kernels};
  std::vector<int32_t> positions_ = std::vector<int32_t>(kTokens);
  std::vector<int32_t> blocks_;
  std::vector<float> q_ = random_values(std::size_t{kTokens} * kHeads * kValueSize, 1);
  std::vector<float> q_rest_ = random_values(std::size_t{kTokens} * kHeads * kRestSize, 2);
  const std::vector<float> rows_ = random_values(std::size_t{kTokens} * kKeySize, 3);
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const KernelTable* table : runnable_kernels()) {
    for (const Element element : {Element::kFloat32, Element::kBfloat16, Element::kInt8}) {
      all.push_back({table, element});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, LatentAttention, testing::ValuesIn(cases()), [](const auto& test) {
  const Element element = test.param.element;
  return std::string(test.param.kernels->name) + (element == Element::kFloat32    ? "_fp32"
                                                  : element == Element::kBfloat16 ? "_bf16"
                                                                                  : "_int8");
});

TEST_P(LatentAttention, it_is_the_reference_over_what_is_stored) {
  const bool rounds = GetParam().kernels->name == "amx" && GetParam().element == Element::kBfloat16;
  const float allowed = rounds ? 0x1p-9F : 4e-6F;
  const auto got = run(rows_, kTokens, kTokens);
  const auto kept = stored(rows_);
  for (const uint32_t token : {0U, 1U, 3U, 15U, 255U, 256U, kTokens - 1}) {
    for (uint32_t head = 0; head < kHeads; ++head) {
      const std::size_t at = std::size_t{token} * kHeads + head;
      std::vector<float> query(q_.begin() + static_cast<std::ptrdiff_t>(at * kValueSize),
                               q_.begin() + static_cast<std::ptrdiff_t>((at + 1) * kValueSize));
      query.insert(query.end(), q_rest_.begin() + static_cast<std::ptrdiff_t>(at * kRestSize),
                   q_rest_.begin() + static_cast<std::ptrdiff_t>((at + 1) * kRestSize));
      if (rounds) query = reference::rounded_to_bfloat16(query);
      const auto expected = reference::latent_attention(query, kept, kValueSize, token, kScale);
      for (uint32_t i = 0; i < kValueSize; ++i) {
        ASSERT_NEAR(got[at * kValueSize + i], expected[i], allowed) << "token " << token;
      }
    }
  }
}

TEST_P(LatentAttention, a_token_has_the_same_bits_in_any_chunk) {
  const auto whole = run(rows_, kTokens, kTokens);
  for (const uint32_t chunk : {1U, 7U, 260U}) EXPECT_EQ(run(rows_, kTokens, chunk), whole);
}

TEST_P(LatentAttention, what_a_token_does_not_see_may_be_anything) {
  constexpr uint32_t bad = 37;
  const auto clean = run(rows_, bad, bad);
  auto spoilt = rows_;
  std::fill(spoilt.begin() + bad * kKeySize, spoilt.end(), std::numeric_limits<float>::quiet_NaN());
  const auto beside = run(spoilt, kTokens, kTokens);
  EXPECT_TRUE(std::equal(clean.begin(), clean.end(), beside.begin()));
  EXPECT_TRUE(std::isnan(beside[std::size_t{bad} * kHeads * kValueSize]));
  EXPECT_EQ(run(rows_, bad, bad), clean);
}

TEST_P(LatentAttention, a_block_holds_one_row_for_each_token) {
  const KvLayout layout{.element = GetParam().element,
                        .layer_count = 3,
                        .kv_head_count = 1,
                        .head_size = 576,
                        .block_tokens = 32,
                        .value_size = 512};
  const uint64_t scales = GetParam().element == Element::kInt8 ? 8 : 0;
  EXPECT_EQ(device_.kv_block_bytes(layout),
            3 * 32 * (576 * element_bytes(GetParam().element) + scales));
}

TEST_P(LatentAttention, sizes_that_fit_no_vector_are_refused_with_both) {
  const Status status = device_.allocate_kv({.element = GetParam().element,
                                             .layer_count = 1,
                                             .kv_head_count = 1,
                                             .head_size = 40,
                                             .value_size = 24},
                                            1);
  EXPECT_EQ(
      status.message(),
      "kv_lora_rank 24, qk_rope_head_dim 16: the CPU backend takes multiples of 16, the first "
      "up to 512 and both together up to 640");
}

class ByHead : public testing::TestWithParam<std::tuple<const KernelTable*, Element>> {};
INSTANTIATE_TEST_SUITE_P(All, ByHead,
                         testing::Combine(testing::ValuesIn(runnable_kernels()),
                                          testing::Values(Element::kFloat32, Element::kBfloat16)),
                         [](const auto& test) {
                           const bool is_bf16 = std::get<1>(test.param) == Element::kBfloat16;
                           return std::string(std::get<0>(test.param)->name) +
                                  (is_bf16 ? "_bf16" : "_fp32");
                         });

TEST_P(ByHead, each_heads_product_is_that_of_its_layer_alone) {
  const auto& [kernels, element] = GetParam();
  ThreadPool pool{2};
  SoloCollective solo;
  CpuDevice device{element, pool, solo, *kernels};
  constexpr uint32_t heads = 3;
  constexpr uint32_t in = 40;
  constexpr uint32_t out = 70;
  std::vector<std::vector<float>> values;
  std::vector<std::unique_ptr<LinearWeight>> weights;
  for (uint32_t head = 0; head < heads; ++head) {
    values.push_back(random_values(std::size_t{in} * out, head));
    auto loaded =
        device.load_linear({.parts = {{values[head].data(), Element::kFloat32, in, out, in}}});
    ASSERT_TRUE(loaded.ok());
    weights.push_back(std::move(loaded).value());
  }
  for (const uint32_t rows : {1U, 5U, 33U, 700U}) {
    auto x = random_values(std::size_t{rows} * heads * in, rows);
    std::vector<float> got(std::size_t{rows} * heads * out);
    std::vector<float> expected(got.size());
    device.linear_by_head(weights, view_of(x, rows), view_of(got, rows));
    for (uint32_t head = 0; head < heads; ++head) {
      device.linear(*weights[head], view_of(x, rows).columns(head * in, in),
                    view_of(expected, rows).columns(head * out, out));
    }
    EXPECT_EQ(got, expected) << rows << " rows";
  }
}

}  // namespace
}  // namespace trireme::worker::cpu
