// Goal: what the C++ face promises beyond what conformance_test.py compares with Python: errors
// that name the file, tokens and their parts, use from several threads.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

namespace trireme::text {
namespace {

const std::vector<std::string> kKinds = {"byte_level", "byte_fallback", "unigram"};

Tokenizer load(const std::string& kind) {
  StatusOr<Tokenizer> tokenizer = Tokenizer::load("text/testdata/" + kind);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A directory of its own for each test, with the files it wants.
std::string directory_with(const std::string& name, const std::string& text) {
  const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::string directory = ::testing::TempDir() + "trireme_tokenizer_" + test;
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/" + name, std::ios::binary) << text;
  return directory;
}

TEST(Tokenizer, text_comes_back_from_its_ids) {
  const std::string text = "The capital of Paris is Berlin!";
  for (const std::string& kind : kKinds) {
    const Tokenizer tokenizer = load(kind);
    const auto ids = tokenizer.encode(text, false);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(tokenizer.decode(*ids, true).value(), text) << kind;
  }
}

TEST(Tokenizer, special_tokens_are_added_when_asked_and_skipped_when_asked) {
  for (const std::string& kind : kKinds) {
    const Tokenizer tokenizer = load(kind);
    const auto ids = tokenizer.encode("Oslo", true).value();
    ASSERT_TRUE(tokenizer.bos().has_value());
    EXPECT_EQ(tokenizer.bos()->text, "<s>");
    EXPECT_EQ(tokenizer.bos()->id, ids.front());
    EXPECT_TRUE(tokenizer.is_special(ids.front()));
    EXPECT_FALSE(tokenizer.is_special(ids.back()));
    EXPECT_EQ(tokenizer.decode(ids, true).value(), "Oslo");
    EXPECT_EQ(tokenizer.eos()->text, "</s>");
    EXPECT_FALSE(tokenizer.pad().has_value());
  }
}

TEST(Tokenizer, an_added_token_in_the_text_is_one_id) {
  for (const std::string& kind : kKinds) {
    const Tokenizer tokenizer = load(kind);
    const int32_t call = tokenizer.token_id("<tool_call>").value();
    const auto ids = tokenizer.encode("x<tool_call>y", false).value();
    EXPECT_EQ(std::count(ids.begin(), ids.end(), call), 1);
    EXPECT_EQ(tokenizer.token_text(call), "<tool_call>");
  }
}

TEST(Tokenizer, the_bytes_of_the_tokens_make_the_text) {
  const std::string text = " Straße 東京 😀";
  const Tokenizer tokenizer = load("byte_level");
  std::string joined;
  const auto ids = tokenizer.encode(text, false).value();
  for (const int32_t id : ids) joined += tokenizer.token_bytes(id);
  EXPECT_EQ(joined, text);
}

TEST(Tokenizer, a_byte_token_is_its_byte) {
  const Tokenizer tokenizer = load("byte_fallback");
  const int32_t id = tokenizer.token_id("<0xE2>").value();
  EXPECT_EQ(tokenizer.token_bytes(id), "\xE2");
  EXPECT_EQ(tokenizer.token_text(id), "�");
}

TEST(Tokenizer, ids_outside_the_vocabulary_are_no_tokens) {
  const Tokenizer tokenizer = load("unigram");
  const auto size = static_cast<int32_t>(tokenizer.vocabulary_size());
  for (const int32_t id : {-1, size, INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(tokenizer.has_token(id));
    EXPECT_EQ(tokenizer.token_bytes(id), "");
    EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{id}, true).value(), "");
  }
  EXPECT_TRUE(tokenizer.has_token(size - 1));
}

TEST(Tokenizer, bad_utf8_is_refused) {
  const auto ids = load("byte_level").encode("abc\xFF", false);
  EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(ids.status().message().find("byte 3"), std::string::npos) << ids.status();
}

TEST(Tokenizer, a_missing_file_is_named) {
  const auto tokenizer = Tokenizer::load("/nonexistent/model");
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kNotFound);
  EXPECT_NE(tokenizer.status().message().find("/nonexistent/model/tokenizer.json"),
            std::string::npos);
}

TEST(Tokenizer, every_truncated_file_is_refused_by_name) {
  for (const std::string& kind : kKinds) {
    const std::string whole = read_file("text/testdata/" + kind + "/tokenizer.json");
    for (size_t size = 0; size + 1 < whole.size(); size += 1 + whole.size() / 50) {
      const std::string directory = directory_with("tokenizer.json", whole.substr(0, size));
      const auto tokenizer = Tokenizer::load(directory);
      ASSERT_EQ(tokenizer.status().code(), StatusCode::kDataLoss) << kind << " " << size;
      ASSERT_NE(tokenizer.status().message().find("tokenizer.json"), std::string::npos);
    }
  }
}

TEST(Tokenizer, json_that_is_no_tokenizer_is_refused) {
  for (const std::string text : {"[]", "{}", "null", "{\"model\": {\"type\": \"BPE\"}}", "\xFF"}) {
    const auto tokenizer = Tokenizer::load(directory_with("tokenizer.json", text));
    EXPECT_EQ(tokenizer.status().code(), StatusCode::kDataLoss) << text;
  }
}

TEST(Tokenizer, a_broken_configuration_is_named) {
  const std::string directory =
      directory_with("tokenizer.json", read_file("text/testdata/unigram/tokenizer.json"));
  std::ofstream(directory + "/tokenizer_config.json") << "{\"bos_token\": ";
  const auto tokenizer = Tokenizer::load(directory);
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kDataLoss);
  EXPECT_NE(tokenizer.status().message().find("tokenizer_config.json"), std::string::npos);
}

TEST(Tokenizer, a_decoder_that_cannot_be_streamed_is_refused_by_name) {
  std::string json = read_file("text/testdata/byte_level/tokenizer.json");
  const size_t decoder = json.find("\"decoder\":{\"type\":\"ByteLevel\"");
  ASSERT_NE(decoder, std::string::npos);
  json.replace(decoder, json.find('}', decoder) + 1 - decoder,
               R"("decoder":{"type":"BPEDecoder","suffix":"</w>"})");
  const auto tokenizer = Tokenizer::load(directory_with("tokenizer.json", json));
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kUnimplemented);
  EXPECT_NE(tokenizer.status().message().find("BPE"), std::string::npos) << tokenizer.status();
}

TEST(Tokenizer, a_post_processor_without_its_token_is_refused) {
  std::string json = read_file("text/testdata/byte_level/tokenizer.json");
  const std::string tokens = R"("special_tokens":{"<s>":)";
  const size_t place = json.find(tokens);
  ASSERT_NE(place, std::string::npos);
  json.replace(place, tokens.size(), R"("special_tokens":{"<t>":)");
  const auto tokenizer = Tokenizer::load(directory_with("tokenizer.json", json));
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kDataLoss) << tokenizer.status();
}

TEST(Tokenizer, an_absurd_token_id_is_refused) {
  std::string json = read_file("text/testdata/unigram/tokenizer.json");
  const std::string last = "\"content\":\"<｜end▁of▁turn｜>\"";
  const size_t id = json.rfind("{\"id\":", json.find(last));
  json.replace(id, json.find(',', id) - id, "{\"id\":4294967295");
  const auto tokenizer = Tokenizer::load(directory_with("tokenizer.json", json));
  EXPECT_FALSE(tokenizer.ok() && tokenizer->vocabulary_size() > 1000) << tokenizer.status();
}

// Words of their own for each thread fill the cache, words in common are read from it.
TEST(Tokenizer, several_threads_encode_and_decode_at_once) {
  for (const std::string& kind : kKinds) {
    const Tokenizer tokenizer = load(kind);
    std::vector<int> mismatches(4, 0);
    std::vector<std::jthread> threads;
    for (size_t thread = 0; thread < mismatches.size(); ++thread) {
      threads.emplace_back([&tokenizer, &mismatch_count = mismatches[thread], thread] {
        for (size_t i = 0; i < 200; ++i) {
          const std::string text =
              "Das dist" + std::to_string(thread * i) + "ance fort" + std::to_string(i) + " to";
          const auto ids = tokenizer.encode(text, true).value();
          if (tokenizer.decode(ids, true).value() != text) ++mismatch_count;
        }
      });
    }
    threads.clear();
    if (kind == "unigram") continue;  // it writes characters it does not know as <unk>
    EXPECT_EQ(mismatches, std::vector<int>(4, 0)) << kind;
  }
}

}  // namespace
}  // namespace trireme::text
