// Goal: attention over the paged cache is the reference's, sees what it shall and nothing else;
// what the device cannot do yet is refused; its cache comes and goes. Method: on the emulated GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "worker/kernels/cuda/device_for_test.h"
#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/reference/reference.h"

namespace trireme::worker::cuda {
namespace {

using testing::HasSubstr;

constexpr uint32_t kBlockTokens = 16;

struct Heads {
  uint32_t query;
  uint32_t kv;
  uint32_t size;
};

// One sequence: its q, k and v, run through a device of its own.
class Sequence {
 public:
  std::vector<float> q;  // [token][head][head size], as k and v.
  std::vector<float> k;
  std::vector<float> v;

  Sequence(const Heads& heads, uint32_t token_count, Element kv_element)
      : q(random_values(std::size_t{token_count} * heads.query * heads.size, 1)),
        k(random_values(std::size_t{token_count} * heads.kv * heads.size, 2)),
        v(random_values(std::size_t{token_count} * heads.kv * heads.size, 3)),
        heads_(heads),
        token_count_(token_count) {
    const uint32_t block_count = token_count / kBlockTokens + 1;
    const Status allocated = device_->allocate_kv({.element = kv_element,
                                                   .layer_count = 2,
                                                   .kv_head_count = heads.kv,
                                                   .head_size = heads.size,
                                                   .block_tokens = kBlockTokens},
                                                  block_count);
    EXPECT_TRUE(allocated.ok()) << allocated;
    blocks_.resize(block_count);
    std::iota(blocks_.rbegin(), blocks_.rend(), 0);
  }

  // K and V of the tokens from `begin` on, as one chunk of a prompt.
  void append(uint32_t begin, uint32_t count) {
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    const ForwardRow row{.token_count = count, .start = begin, .blocks = blocks_};
    device_->begin_step({.tokens = positions, .positions = positions, .rows = std::span(&row, 1)},
                        {});
    device_->append_kv(1, device_.upload(0, part(k, heads_.kv, begin, count), count),
                       device_.upload(1, part(v, heads_.kv, begin, count), count));
  }

  // And what their queries give.
  [[nodiscard]] std::vector<float> run(AttentionShape shape, uint32_t begin, uint32_t count) {
    append(begin, count);
    shape.query_head_count = heads_.query;
    shape.kv_head_count = heads_.kv;
    shape.head_size = heads_.size;
    const View out = device_.empty(3, count, heads_.query * heads_.size);
    device_->attention(1, shape, device_.upload(2, part(q, heads_.query, begin, count), count),
                       out);
    return device_.values_of(out);
  }

  void release_kv() { device_->release_kv(); }

  // Of one head of one token over the positions [first, last].
  [[nodiscard]] std::vector<float> expected(uint32_t token, uint32_t head, uint32_t first,
                                            uint32_t last, float scale) const {
    const uint32_t kv_head = head / (heads_.query / heads_.kv);
    const auto rows_of = [&](const std::vector<float>& values) {
      std::vector<float> rows;
      for (uint32_t t = 0; t < token_count_; ++t) {
        const auto at = std::ptrdiff_t{t * heads_.kv + kv_head} * heads_.size;
        rows.insert(rows.end(), values.begin() + at, values.begin() + at + heads_.size);
      }
      return rows;
    };
    return reference::attention(
        std::span(q).subspan(std::size_t{token * heads_.query + head} * heads_.size, heads_.size),
        rows_of(k), rows_of(v), first, last, scale);
  }

 private:
  [[nodiscard]] std::span<const float> part(const std::vector<float>& values, uint32_t heads,
                                            uint32_t begin, uint32_t count) const {
    const std::size_t columns = std::size_t{heads} * heads_.size;
    return std::span(values).subspan(begin * columns, count * columns);
  }

  TestedDevice device_{Element::kFloat32};
  Heads heads_;
  uint32_t token_count_;
  std::vector<int32_t> blocks_;
};

TEST(CudaAttention, is_the_reference_across_blocks_chunks_windows_and_groups) {
  constexpr uint32_t tokens = 83;
  struct Case {
    Heads heads;
    uint32_t window;
    bool is_causal = true;
  };
  for (const auto& [heads, window, is_causal] :
       {Case{{1, 1, 64}, 0}, Case{{7, 1, 10}, 0}, Case{{6, 2, 130}, 40}, Case{{4, 4, 9}, 5},
        Case{{34, 1, 4}, 0}, Case{{2, 1, 256}, 0}, Case{{3, 3, 32}, 0, false}}) {
    Sequence sequence(heads, tokens, Element::kFloat32);
    const float scale = 3.0F / std::sqrt(static_cast<float>(heads.size));
    const auto got =
        sequence.run({.scale = scale, .window_tokens = window, .is_causal = is_causal}, 0, tokens);
    for (const uint32_t token : {0U, 1U, 15U, 16U, 31U, 32U, 63U, tokens - 1}) {
      for (uint32_t head = 0; head < heads.query; ++head) {
        const uint32_t first = window > 0 && token >= window ? token + 1 - window : 0;
        const auto at = std::size_t{token * heads.query + head} * heads.size;
        expect_close(std::span(got).subspan(at, heads.size),
                     sequence.expected(token, head, first, is_causal ? token : tokens - 1, scale),
                     5e-6F);
      }
    }
  }
}

TEST(CudaAttention, of_long_sequences_adds_their_spans) {
  constexpr uint32_t tokens = 2 * kSpanTokens + 40;
  for (const uint32_t window : {0U, 100U}) {
    const AttentionShape shape{.scale = 0.9F, .window_tokens = window};
    Sequence sequence({4, 2, 16}, tokens, Element::kFloat32);
    // Of all but the last tokens only K and V are wanted.
    sequence.append(0, tokens - 21);
    const auto got = sequence.run(shape, tokens - 21, 21);
    for (const uint32_t token : {tokens - 21, tokens - 6, tokens - 1}) {
      for (uint32_t head = 0; head < 4; ++head) {
        const uint32_t first = window > 0 ? token + 1 - window : 0;
        const auto at = std::size_t{(token + 21 - tokens) * 4 + head} * 16;
        expect_close(std::span(got).subspan(at, 16),
                     sequence.expected(token, head, first, token, 0.9F), 5e-6F);
      }
    }
    const auto alone = sequence.run(shape, tokens - 1, 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), got.end() - 64));
  }
}

TEST(CudaAttention, scores_bend_towards_their_cap) {
  // One position besides the token's own, with a score that the cap halves or so.
  Sequence sequence({1, 1, 2}, 2, Element::kFloat32);
  sequence.q = {0, 0, 1, 0};
  sequence.k = {4, 0, 0, 0};
  sequence.v = {1, 0, 0, 1};
  const auto got = sequence.run({.scale = 1, .soft_cap = 2}, 0, 2);
  const double weight = std::exp(2 * std::tanh(4.0 / 2));
  EXPECT_NEAR(got[2], weight / (weight + 1), 1e-6);
  EXPECT_NEAR(got[3], 1 / (weight + 1), 1e-6);
}

TEST(CudaAttention, a_cache_of_narrower_numbers_holds_the_rounded_ones) {
  for (const Element element : {Element::kBfloat16, Element::kFloat16}) {
    Sequence sequence({4, 2, 24}, 40, element);
    const auto got = sequence.run({.scale = 0.5F}, 0, 40);
    for (auto* values : {&sequence.k, &sequence.v}) {
      for (float& value : *values) {
        value = element == Element::kBfloat16 ? rounded_to_bfloat16(value)
                                              : float_of_float16(float16_of(value));
      }
    }
    expect_close(std::span(got).last(24), sequence.expected(39, 3, 0, 39, 0.5F), 5e-6F);
  }
}

// Each head of each token with a scale of its own.
std::vector<float> as_int8(std::vector<float> values, uint32_t head_size) {
  std::vector<uint8_t> codes(head_size);
  for (std::size_t begin = 0; begin < values.size(); begin += head_size) {
    const auto head = std::span(values).subspan(begin, head_size);
    const float scale = quantize_int8(head, codes);
    for (uint32_t i = 0; i < head_size; ++i) {
      head[i] = (static_cast<float>(codes[i]) - 128) * scale;
    }
  }
  return values;
}

TEST(CudaAttention, a_cache_of_int8_holds_codes_with_a_scale_for_each_head_of_each_token) {
  for (const uint32_t head_size : {24U, 9U, 130U}) {
    Sequence sequence({4, 2, head_size}, 40, Element::kInt8);
    for (std::size_t i = 0; i < sequence.k.size(); ++i) {
      const auto head = static_cast<float>(i / head_size);
      sequence.k[i] *= 1 + head / 10;
      sequence.v[i] *= 100 / (1 + head);
    }
    const auto got = sequence.run({.scale = 0.3F}, 0, 40);
    sequence.k = as_int8(sequence.k, head_size);
    sequence.v = as_int8(sequence.v, head_size);
    expect_close(std::span(got).last(head_size), sequence.expected(39, 3, 0, 39, 0.3F), 1e-5F);
    expect_close(std::span(got).subspan(std::size_t{4} * 17 * head_size, head_size),
                 sequence.expected(17, 0, 0, 17, 0.3F), 1e-5F);
  }
}

TEST(CudaAttention, chunks_of_a_prompt_and_single_tokens_have_the_bits_of_the_whole) {
  constexpr uint32_t tokens = 75;
  for (const uint32_t window : {0U, 20U}) {
    const AttentionShape shape{.scale = 0.7F, .window_tokens = window};
    const Element element = window == 0 ? Element::kBfloat16 : Element::kInt8;
    const auto whole = Sequence({6, 2, 20}, tokens, element).run(shape, 0, tokens);
    for (const uint32_t chunk : {1U, 5U, 33U}) {
      Sequence sequence({6, 2, 20}, tokens, element);
      std::vector<float> all;
      for (uint32_t begin = 0; begin < tokens; begin += chunk) {
        const auto part = sequence.run(shape, begin, std::min(chunk, tokens - begin));
        all.insert(all.end(), part.begin(), part.end());
      }
      EXPECT_EQ(all, whole) << "chunks of " << chunk << ", window " << window;
    }
  }
}

TEST(CudaAttention, of_a_token_is_not_touched_by_what_it_does_not_see) {
  constexpr uint32_t tokens = 50;
  constexpr uint32_t bad = 37;
  constexpr uint32_t columns = 3 * 8;
  const auto run = [&](float value, uint32_t window) {
    // With a window as codes, whose scale is lost.
    Sequence sequence({3, 3, 8}, tokens, window == 0 ? Element::kFloat32 : Element::kInt8);
    for (uint32_t i = 0; i < columns; ++i) sequence.k[bad * columns + i] = value;
    for (uint32_t i = 0; i < columns; ++i) sequence.v[bad * columns + i] = value;
    return sequence.run({.scale = 0.3F, .window_tokens = window}, 0, tokens);
  };
  for (const uint32_t window : {0U, 6U}) {
    const auto good = run(0.5F, window);
    const auto got = run(std::numeric_limits<float>::quiet_NaN(), window);
    for (uint32_t token = 0; token < tokens; ++token) {
      const bool sees_it = token >= bad && (window == 0 || token < bad + window);
      for (uint32_t i = token * columns; i < (token + 1) * columns; ++i) {
        if (sees_it) {
          ASSERT_TRUE(std::isnan(got[i])) << token;
        } else {
          ASSERT_EQ(got[i], good[i]) << token;
        }
      }
    }
  }
}

TEST(CudaDevice, blocks_of_the_cache_go_out_and_into_others) {
  const TestedDevice device(Element::kFloat32);
  const KvLayout layout{.element = Element::kBfloat16,
                        .layer_count = 3,
                        .kv_head_count = 2,
                        .head_size = 6,
                        .block_tokens = 4};
  ASSERT_TRUE(device->allocate_kv(layout, 5).ok());
  const uint64_t bytes = device->kv_block_bytes(layout);
  EXPECT_EQ(bytes, 3U * 2 * 2 * 6 * 4 * 2);
  std::vector<std::byte> first(bytes);
  std::vector<std::byte> second(bytes);
  for (std::size_t i = 0; i < bytes; ++i) first[i] = static_cast<std::byte>(i * 7);
  for (std::size_t i = 0; i < bytes; ++i) second[i] = static_cast<std::byte>(i * 5 + 1);
  device->copy_kv_block_in(4, first);
  device->copy_kv_block_in(0, second);
  std::vector<std::byte> out(bytes);
  device->copy_kv_block_out(4, out);
  EXPECT_EQ(out, first);
  device->copy_kv_block_out(0, out);
  EXPECT_EQ(out, second);
}

TEST(CudaDevice, a_cache_that_was_given_back_is_there_again_for_the_next_step) {
  Sequence sequence({2, 1, 8}, 20, Element::kFloat32);
  const AttentionShape shape{.scale = 1};
  const auto before = sequence.run(shape, 0, 20);
  sequence.release_kv();
  EXPECT_EQ(sequence.run(shape, 0, 20), before);
}

TEST(CudaDevice, angles_of_layers_that_differ_take_turns) {
  const TestedDevice device(Element::kFloat32);
  const std::vector<int32_t> one(1, 0);
  const ForwardRow row{.token_count = 1};
  const std::vector<float> zero = {0};
  const std::vector<float> half = {0.5F};
  const RotaryAngles global{half, zero, 2};
  const RotaryAngles local{zero, half, 2};
  device->begin_step({.tokens = one, .positions = one, .rows = std::span(&row, 1)}, global);
  const std::vector<float> pair = {2, 4};
  const auto turned = [&] {
    const View view = device.upload(0, pair, 1);
    device->rotary(view, 2);
    return device.values_of(view);
  };
  for (uint32_t layer = 0; layer < 3; ++layer) {
    device->use_angles(local);
    EXPECT_THAT(turned(), testing::ElementsAre(-2, 1));
    device->use_angles(global);
    EXPECT_THAT(turned(), testing::ElementsAre(1, 2));
  }
}

TEST(CudaDevice, a_step_larger_than_all_before_finds_room_for_its_arrays) {
  const TestedDevice device(Element::kFloat32);
  const std::vector<float> values = {10, 11, 12};
  const auto table = device->load_embedding(slice_of(values, 3));
  ASSERT_TRUE(table.ok());
  for (const uint32_t count : {3U, 200000U, 5U, 400000U}) {
    // The tokens are the last of the arrays that still fit, the positions the first that do not.
    std::vector<int32_t> tokens(count, 1);
    const std::vector<int32_t> positions(count, 2);
    const ForwardRow row{.token_count = count};
    device->begin_step({.tokens = tokens, .positions = positions, .rows = std::span(&row, 1)}, {});
    const View out = device.empty(0, 2, 1);
    device->embed(**table, out);
    device->add_positions(**table, out);
    EXPECT_THAT(device.values_of(out), testing::Each(11 + 12));
    ASSERT_TRUE(device->end_step().ok()) << count;
  }
}

void expect_not_yet(const Status& status, const std::string& what) {
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--device cuda: " + what));
  EXPECT_THAT(std::string(status.message()), HasSubstr("use --device cpu"));
}

TEST(CudaDevice, what_it_cannot_do_yet_is_refused_by_name) {
  const TestedDevice device(Element::kFloat32);
  const std::vector<float> values(4);
  const MatrixSlice slice = slice_of(values, 2);
  expect_not_yet(device->load_linear({.parts = {slice}, .narrowest = Narrowest::kAsIs}).status(),
                 "mixtures of experts");
  expect_not_yet(device->load_linear({.parts = {slice}, .is_apart = true}).status(),
                 "mixtures of experts");
  KvLayout layout{.layer_count = 1, .kv_head_count = 1, .head_size = 8};
  layout.value_size = 4;
  expect_not_yet(device->allocate_kv(layout, 1), "latent attention");
  layout.value_size = 0;
  layout.head_size = 512;
  expect_not_yet(device->allocate_kv(layout, 1), "head_dim 512");
}

TEST(CudaDevice, a_cache_that_does_not_fit_is_exhausted_memory) {
  const TestedDevice device(Element::kFloat32);
  const KvLayout layout{.layer_count = 100, .kv_head_count = 8, .head_size = 128};
  const Status status = device->allocate_kv(layout, 1U << 20);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the KV cache"));
}

// A slot whose memory is not there: the step ends with the error, and what came between was not
// run.
TEST(CudaDevice, activations_that_do_not_fit_are_the_step_s_error_and_the_next_step_runs) {
  SoloCollective solo;
  auto device = CudaDevice::create({.element = Element::kFloat32}, solo);
  ASSERT_TRUE(device.ok());
  (*device)->begin_step({}, {});
  const View view = (*device)->scratch(0, 1U << 20, 1U << 20);
  (*device)->scale(view, 2);
  EXPECT_EQ((*device)->end_step().code(), StatusCode::kResourceExhausted);
  (*device)->begin_step({}, {});
  (*device)->scale((*device)->scratch(0, 2, 2), 2);
  EXPECT_TRUE((*device)->end_step().ok());
}

}  // namespace
}  // namespace trireme::worker::cuda
