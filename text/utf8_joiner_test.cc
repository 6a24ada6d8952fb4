// Goal: text comes out the same however the bytes were cut, and what is not UTF-8 is replaced as
// Unicode recommends. Method: every sequence of up to five bytes out of the ones that matter.
#include "text/utf8_joiner.h"

#include <gtest/gtest.h>

#include <vector>

namespace trireme::text {
namespace {

std::string join(const std::vector<std::string>& pieces) {
  std::string text;
  Utf8Joiner joiner;
  for (const std::string& piece : pieces) joiner.push(piece, text);
  joiner.flush(text);
  return text;
}

TEST(Utf8Joiner, whole_characters_pass) {
  const std::string text = "aé€😀\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF";
  EXPECT_EQ(join({text}), text);
}

TEST(Utf8Joiner, a_character_goes_out_with_its_last_byte) {
  std::string text;
  Utf8Joiner joiner;
  joiner.push("x\xF0\x9F", text);
  EXPECT_EQ(text, "x");
  joiner.push("\x98", text);
  EXPECT_EQ(text, "x");
  EXPECT_EQ(joiner.held_count(), 3U);
  joiner.push("\x80y", text);
  EXPECT_EQ(text, "x😀y");
}

TEST(Utf8Joiner, each_maximal_part_becomes_one_replacement) {
  EXPECT_EQ(join({"a\xF0\x9F\x98"
                  "b"}),
            "a�b");
  EXPECT_EQ(join({"\x80\x80"}), "��");
  EXPECT_EQ(join({"\xC0\xAF"}), "��");
  EXPECT_EQ(join({"\xE0\x80\x80"}), "���");
  EXPECT_EQ(join({"\xED\xA0\x80"}), "���");
  EXPECT_EQ(join({"\xF4\x90\x80\x80"}), "����");
  EXPECT_EQ(join({"\xE2\x82"}), "�");
  EXPECT_EQ(join({"\xE2\x82\xE2\x82\xAC"}), "�€");
}

TEST(Utf8Joiner, cutting_changes_nothing) {
  const std::string alphabet = "a\x80\xBF\xC3\xE0\xED\xF0\xF4\xFF";
  constexpr size_t kLength = 5;
  std::vector<size_t> digits(kLength, 0);
  for (bool more = true; more;) {
    std::string bytes;
    for (const size_t digit : digits) bytes += alphabet[digit];
    const std::string whole = join({bytes});
    std::vector<std::string> single;
    for (const char byte : bytes) single.emplace_back(1, byte);
    ASSERT_EQ(join(single), whole);
    for (size_t cut = 1; cut < kLength; ++cut) {
      ASSERT_EQ(join({bytes.substr(0, cut), bytes.substr(cut)}), whole);
    }
    ASSERT_EQ(is_valid_utf8(bytes), whole.find(kReplacementCharacter) == std::string::npos);
    more = false;
    for (size_t& digit : digits) {
      digit = (digit + 1) % alphabet.size();
      if (digit != 0) {
        more = true;
        break;
      }
    }
  }
}

TEST(Utf8Joiner, a_replacement_character_in_the_input_is_valid) {
  EXPECT_TRUE(is_valid_utf8("�"));
  EXPECT_FALSE(is_valid_utf8("\xEF\xBF"));
}

}  // namespace
}  // namespace trireme::text
