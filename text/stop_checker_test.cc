// Goal: the text before a stop is the same however it was cut into pieces, and no more is held back
// than might still become a stop. Method: every text up to eight letters over {a, b}, every way to
// cut it, against a search in the whole text.
#include "text/stop_checker.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace trireme::text {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> stopped;

  bool operator==(const Outcome&) const = default;
};

// The definition: the first end of a stop, and among those that end there the first named.
Outcome search(const std::vector<std::string>& stops, bool include_stop, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string_view head = std::string_view(text).substr(0, end);
      if (stops[i].empty() || !head.ends_with(stops[i])) continue;
      return {text.substr(0, include_stop ? end : end - stops[i].size()), i};
    }
  }
  return {text, std::nullopt};
}

// Bit i of `cuts`: a piece ends after letter i.
Outcome feed(const std::vector<std::string>& stops, bool include_stop, const std::string& text,
             size_t cuts) {
  StopChecker checker(stops, include_stop);
  Outcome outcome;
  std::string piece;
  for (size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if ((cuts >> i & 1) == 0 && i + 1 < text.size()) continue;
    outcome.text += checker.push(piece);
    piece.clear();
  }
  outcome.text += checker.flush();
  outcome.stopped = checker.stopped();
  return outcome;
}

const std::vector<std::vector<std::string>> kStopSets = {
    {"a"},       {"ab"},   {"aab"},       {"aba", "b"}, {"b", "ab"},
    {"ab", "b"}, {"abab"}, {"aa", "abb"}, {"bbb", ""},  {"abaab", "baa", "aabb"},
};

TEST(StopChecker, the_outcome_does_not_depend_on_the_cuts) {
  for (const auto& stops : kStopSets) {
    for (size_t length = 0; length <= 8; ++length) {
      for (size_t letters = 0; letters < size_t{1} << length; ++letters) {
        std::string text;
        for (size_t i = 0; i < length; ++i) text += (letters >> i & 1) != 0 ? 'b' : 'a';
        for (const bool include_stop : {false, true}) {
          const Outcome wanted = search(stops, include_stop, text);
          const size_t cut_count = size_t{1} << (length == 0 ? 0 : length - 1);
          for (size_t cuts = 0; cuts < cut_count; ++cuts) {
            ASSERT_EQ(feed(stops, include_stop, text, cuts), wanted) << text << " cut at " << cuts;
          }
        }
      }
    }
  }
}

TEST(StopChecker, only_a_possible_beginning_of_a_stop_is_held_back) {
  StopChecker checker({"</end>", "\n\n"}, false);
  EXPECT_EQ(checker.push("Hello <"), "Hello ");
  EXPECT_EQ(checker.push("b>"), "<b>");
  EXPECT_EQ(checker.push("x\n"), "x");
  EXPECT_EQ(checker.push("y</en"), "\ny");
  EXPECT_EQ(checker.flush(), "</en");
  EXPECT_FALSE(checker.stopped().has_value());
}

TEST(StopChecker, text_after_the_stop_is_dropped) {
  StopChecker checker({"STOP"}, false);
  EXPECT_EQ(checker.push("one STOP two"), "one ");
  EXPECT_EQ(checker.stopped(), std::optional<size_t>(0));
  EXPECT_EQ(checker.stop(0), "STOP");
  EXPECT_EQ(checker.push("three"), "");
  EXPECT_EQ(checker.flush(), "");
}

TEST(StopChecker, without_stops_the_piece_itself_comes_back) {
  StopChecker checker({}, false);
  const std::string piece = "as it is";
  EXPECT_EQ(checker.push(piece).data(), piece.data());
}

TEST(StopChecker, whole_characters_go_out) {
  StopChecker checker({"é!"}, false);
  EXPECT_EQ(checker.push("caf"), "caf");
  EXPECT_EQ(checker.push("é"), "");
  EXPECT_EQ(checker.push("è"), "éè");
}

}  // namespace
}  // namespace trireme::text
