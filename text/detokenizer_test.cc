// Goal: a stream of tokens gives the text that decoding them at once gives, in whole characters.
// Method: random token sequences over each kind of tokenizer, and hand-made ones for the rules.
#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "text/tokenizer.h"

namespace trireme::text {
namespace {

const std::vector<std::string> kKinds = {"byte_level", "byte_fallback", "unigram"};

Tokenizer load(const std::string& kind) {
  StatusOr<Tokenizer> tokenizer = Tokenizer::load("text/testdata/" + kind);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip_special});
  std::string text;
  for (const int32_t id : ids) {
    const std::string_view piece = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(piece));
    text += piece;
  }
  text += detokenizer.flush();
  return text;
}

class DetokenizerOfKind : public ::testing::TestWithParam<std::string> {};

// Few tokens of many kinds near each other: byte tokens, specials, holes, the first places.
TEST_P(DetokenizerOfKind, equals_decoding_all_at_once) {
  const Tokenizer tokenizer = load(GetParam());
  const auto size = static_cast<int32_t>(tokenizer.vocabulary_size());
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    const int32_t range = seed % 3 == 0 ? std::min(size, 300) : size + 3;
    std::vector<int32_t> ids(random() % 24);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(range)) - 1;
    for (const bool skip_special : {true, false}) {
      ASSERT_EQ(stream(tokenizer, ids, skip_special), tokenizer.decode(ids, skip_special).value())
          << "seed " << seed;
    }
  }
}

TEST_P(DetokenizerOfKind, text_comes_back) {
  const Tokenizer tokenizer = load(GetParam());
  const std::string text = "The capital of Paris is Zürich! 東京は北京にあります。";
  const auto ids = tokenizer.encode(text, true).value();
  EXPECT_EQ(stream(tokenizer, ids, true), tokenizer.decode(ids, true).value());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DetokenizerOfKind, ::testing::ValuesIn(kKinds),
                         [](const auto& kind) { return kind.param; });

TEST(Detokenizer, an_emoji_comes_out_whole) {
  for (const std::string kind : {"byte_level", "byte_fallback"}) {
    const Tokenizer tokenizer = load(kind);
    Detokenizer detokenizer(tokenizer);
    std::vector<std::string> pieces;
    const auto ids = tokenizer.encode("a👩‍🚀b", false).value();
    for (const int32_t id : ids) {
      pieces.emplace_back(detokenizer.push(id));
      EXPECT_EQ(pieces.back().find(kReplacementCharacter), std::string::npos) << kind;
    }
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    EXPECT_EQ(text + std::string(detokenizer.flush()), "a👩‍🚀b") << kind;
  }
}

TEST(Detokenizer, what_never_completes_is_replaced_at_the_end) {
  const Tokenizer tokenizer = load("byte_level");
  const auto ids = tokenizer.encode("é", false).value();
  ASSERT_EQ(ids.size(), 2U) << "the small vocabulary is expected to spell this in bytes";
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(ids[0]), "");
  EXPECT_EQ(detokenizer.flush(), "�");
}

TEST(Detokenizer, the_first_space_of_the_text_is_cut_and_no_other) {
  const Tokenizer tokenizer = load("byte_fallback");
  const int32_t space = tokenizer.token_id("▁").value();
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(space), "");
  EXPECT_EQ(detokenizer.push(space), " ");
}

// A decoder that puts a space in front of each token, as some put in front of added ones.
TEST(Detokenizer, spaces_between_added_tokens_can_be_left_out) {
  const std::string bytes = "a aa<x> <x><x>";
  const std::vector<uint32_t> offsets = {0, 1, 3, 4, 7, 11, 14};
  const std::vector<uint8_t> flags = {PieceTable::kPresent,
                                      PieceTable::kPresent | PieceTable::kAdded};
  const PieceTable pieces{
      .token_count = 2, .offsets = offsets.data(), .flags = flags.data(), .bytes = bytes.data()};
  const std::vector<int32_t> ids = {0, 1, 1, 0, 1};
  for (const auto& [spaces, skip, wanted] :
       {std::tuple{true, false, "a <x> <x> a <x>"}, std::tuple{false, false, "a <x><x> a <x>"},
        std::tuple{false, true, "a <x> <x> a <x>"}}) {
    Detokenizer detokenizer(pieces,
                            {.skip_special_tokens = skip, .spaces_between_special_tokens = spaces});
    std::string text;
    for (const int32_t id : ids) text += detokenizer.push(id);
    EXPECT_EQ(text, wanted);
  }
}

}  // namespace
}  // namespace trireme::text
