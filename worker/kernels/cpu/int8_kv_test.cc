// Goal: with an int8 KV cache attention is the reference over what is stored, what is stored is off
// by half a step at most, and a token's bits do not depend on the chunks of its prompt. Tolerance
// of the attention: 6e-6, of values up to about 1.
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

constexpr float kTolerance = 6e-6F;

struct Shape {
  uint32_t query_heads = 1;
  uint32_t kv_heads = 1;
  uint32_t head_size = 64;
  uint32_t window = 0;
  uint32_t block_tokens = 16;
  uint32_t token_count = 2 * kAttentionSpanTokens + 37;
};

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

// Heads whose scale is a power of two, so that int8 holds every value exactly.
std::vector<float> whole_steps(std::size_t count, uint32_t head_size, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double step = i % head_size == 0 ? 127.0 : std::round(random.unit() * 254 - 127);
    values[i] = static_cast<float>(step / (64 << (i / head_size % 3)));
  }
  return values;
}

class Int8Kv : public testing::TestWithParam<const KernelTable*> {
 protected:
  static View view_of(std::vector<float>& values, uint32_t rows) {
    const auto columns = static_cast<uint32_t>(values.size() / rows);
    return {values.data(), rows, columns, columns};
  }

  void allocate(const Shape& shape) {
    const Status status = device_.allocate_kv({.element = Element::kInt8,
                                               .layer_count = 2,
                                               .kv_head_count = shape.kv_heads,
                                               .head_size = shape.head_size,
                                               .block_tokens = shape.block_tokens},
                                              shape.token_count / shape.block_tokens + 1);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::vector<float> attend(const Shape& shape, std::vector<float> q, std::vector<float> k,
                            std::vector<float> v, uint32_t chunk) {
    allocate(shape);
    std::vector<int32_t> blocks(shape.token_count / shape.block_tokens + 1);
    std::iota(blocks.rbegin(), blocks.rend(), 0);
    std::vector<int32_t> positions(shape.token_count);
    std::iota(positions.begin(), positions.end(), 0);
    std::vector<float> out(q.size());
    for (uint32_t begin = 0; begin < shape.token_count; begin += chunk) {
      const uint32_t count = std::min(chunk, shape.token_count - begin);
      const ForwardRow row{.token_count = count, .start = begin, .blocks = blocks};
      const auto some = std::span(positions).subspan(begin, count);
      const ForwardBatch batch{.tokens = some, .positions = some, .rows = std::span(&row, 1)};
      device_.begin_step(batch, {});
      device_.append_kv(1, view_of(k, shape.token_count).rows(begin, count),
                        view_of(v, shape.token_count).rows(begin, count));
      device_.attention(1,
                        {.query_head_count = shape.query_heads,
                         .kv_head_count = shape.kv_heads,
                         .head_size = shape.head_size,
                         .scale = 0.2F,
                         .window_tokens = shape.window},
                        view_of(q, shape.token_count).rows(begin, count),
                        view_of(out, shape.token_count).rows(begin, count));
      EXPECT_TRUE(device_.end_step().ok());
    }
    return out;
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{Element::kBfloat16, pool_, solo_, *GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, Int8Kv, testing::ValuesIn(runnable_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

// [token_count][head_size] of one K/V head.
std::vector<float> head_of(const std::vector<float>& all, const Shape& shape, uint32_t head) {
  std::vector<float> out;
  for (std::size_t t = 0; t < shape.token_count; ++t) {
    const auto at = static_cast<std::ptrdiff_t>((t * shape.kv_heads + head) * shape.head_size);
    out.insert(out.end(), all.begin() + at, all.begin() + at + shape.head_size);
  }
  return out;
}

TEST_P(Int8Kv, attention_is_the_reference_across_blocks_spans_and_windows) {
  for (const Shape& shape : {Shape{1, 1, 64}, Shape{7, 1, 10}, Shape{6, 2, 128, 300, 32},
                             Shape{4, 4, 80, 5}, Shape{2, 1, 48, 0, 64}}) {
    const auto q =
        random_values(std::size_t{shape.token_count} * shape.query_heads * shape.head_size, 1);
    const std::size_t kv_count = std::size_t{shape.token_count} * shape.kv_heads * shape.head_size;
    const auto k = whole_steps(kv_count, shape.head_size, 2);
    const auto v = whole_steps(kv_count, shape.head_size, 3);
    const auto out = attend(shape, q, k, v, shape.token_count);
    for (uint32_t head = 0; head < shape.query_heads; ++head) {
      const uint32_t kv_head = head / (shape.query_heads / shape.kv_heads);
      const auto keys = head_of(k, shape, kv_head);
      const auto values = head_of(v, shape, kv_head);
      for (const uint32_t t : {0U, 1U, 15U, 16U, 255U, 256U, 300U, shape.token_count - 1}) {
        const std::size_t at = (std::size_t{t} * shape.query_heads + head) * shape.head_size;
        const uint32_t first = shape.window > 0 && t >= shape.window ? t + 1 - shape.window : 0;
        const auto expected = reference::attention(std::span(q).subspan(at, shape.head_size), keys,
                                                   values, first, t, 0.2F);
        for (uint32_t i = 0; i < shape.head_size; ++i) {
          ASSERT_NEAR(out[at + i], expected[i], kTolerance) << "token " << t << " at " << i;
        }
      }
    }
  }
}

TEST_P(Int8Kv, a_stored_value_is_off_by_half_a_step_at_most) {
  Shape shape{.head_size = 46, .token_count = 40};
  const auto k = random_values(std::size_t{shape.token_count} * shape.head_size, 4);
  auto v = random_values(k.size(), 5);
  std::fill_n(v.begin() + 7 * shape.head_size, shape.head_size, 0.0F);
  for (uint32_t i = 0; i < shape.head_size; ++i) v[8 * shape.head_size + i] *= 1e-35F;
  shape.window = 1;  // A token sees itself alone, so what comes out is its V.
  const auto out = attend(shape, k, k, v, shape.token_count);
  for (std::size_t token = 0; token < shape.token_count; ++token) {
    const auto row = std::span(v).subspan(token * shape.head_size, shape.head_size);
    float largest = 0;
    for (const float value : row) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < row.size(); ++i) {
      ASSERT_NEAR(out[token * shape.head_size + i], row[i], largest / 253.9F + 1e-34F) << token;
    }
  }
}

TEST_P(Int8Kv, attention_of_a_token_has_the_same_bits_in_any_chunk_of_its_prompt) {
  for (const Shape& shape : {Shape{7, 1, 32, 0, 16, kAttentionSpanTokens + 45},
                             Shape{6, 2, 18, 40, 32, kAttentionSpanTokens + 45}}) {
    const auto q =
        random_values(std::size_t{shape.token_count} * shape.query_heads * shape.head_size, 1);
    const std::size_t kv_count = std::size_t{shape.token_count} * shape.kv_heads * shape.head_size;
    const auto k = random_values(kv_count, 2);
    const auto v = random_values(kv_count, 3);
    const auto alone = attend(shape, q, k, v, 1);
    for (const uint32_t chunk : {7U, shape.token_count}) {
      ASSERT_EQ(attend(shape, q, k, v, chunk), alone) << "chunks of " << chunk;
    }
  }
}

TEST_P(Int8Kv, a_value_that_is_not_finite_is_seen_by_those_who_see_its_token) {
  const Shape shape{.head_size = 32, .token_count = 50};
  const auto q = random_values(std::size_t{shape.token_count} * shape.head_size, 1);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto k = random_values(q.size(), 2);
    auto v = random_values(q.size(), 3);
    for (auto* poisoned : {&k, &v}) {
      (*poisoned)[20 * shape.head_size + 3] = bad;
      const auto out = attend(shape, q, k, v, shape.token_count);
      (*poisoned)[20 * shape.head_size + 3] = 0;
      EXPECT_TRUE(std::isfinite(out[19 * shape.head_size]));
      EXPECT_TRUE(std::isnan(out[20 * shape.head_size]));
      EXPECT_TRUE(std::isnan(out[49 * shape.head_size]));
    }
  }
}

TEST_P(Int8Kv, scales_count_as_memory) {
  const KvLayout layout{.element = Element::kInt8,
                        .layer_count = 3,
                        .kv_head_count = 2,
                        .head_size = 128,
                        .block_tokens = 16};
  EXPECT_EQ(device_.kv_block_bytes(layout), 3U * 2 * 16 * (128 + 128 + 8));
}

}  // namespace
}  // namespace trireme::worker::cpu
