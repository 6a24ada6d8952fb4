// What --generation-config takes its defaults from.
#include "api_server/model_info.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace trireme::api {
namespace {

namespace fs = std::filesystem;

class ModelInfoTest : public ::testing::Test {
 protected:
  ModelInfoTest() {
    write("model/config.json", R"({"max_position_embeddings":64,"vocab_size":9,"eos_token_id":1})");
    write("model/generation_config.json",
          R"({"eos_token_id":[2,3],"temperature":0.25,"max_new_tokens":3})");
  }
  ~ModelInfoTest() override { fs::remove_all(root_); }
  void write(const std::string& name, std::string_view text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  [[nodiscard]] StatusOr<ModelInfo> read(const std::string& generation_config) const {
    return read_model_info((root_ / "model").string(), generation_config);
  }

  const fs::path root_ = fs::temp_directory_path() / ("model_info_" + std::to_string(::getpid()));
};

TEST_F(ModelInfoTest, auto_takes_the_defaults_of_the_model) {
  const auto info = read("auto");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->defaults.sampling.temperature, 0.25F);
  EXPECT_EQ(info->defaults.output_tokens_max, 3u);
  EXPECT_EQ(info->eos_token_ids, (std::vector<int32_t>{2, 3}));
}

TEST_F(ModelInfoTest, vllm_takes_none_but_ends_where_the_model_does) {
  const auto info = read("vllm");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->defaults.sampling.temperature, 1.0F);
  EXPECT_FALSE(info->defaults.output_tokens_max.has_value());
  EXPECT_EQ(info->eos_token_ids, (std::vector<int32_t>{2, 3}));
}

TEST_F(ModelInfoTest, directory_takes_the_place_of_the_model) {
  write("other/generation_config.json", R"({"top_p":0.5})");
  const auto info = read((root_ / "other").string());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->defaults.sampling.top_p, 0.5F);
  EXPECT_EQ(info->defaults.sampling.temperature, 1.0F);
  EXPECT_EQ(info->eos_token_ids, std::vector<int32_t>{1});
}

TEST_F(ModelInfoTest, directory_without_the_file_is_named) {
  const auto info = read((root_ / "nowhere").string());
  EXPECT_EQ(info.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(std::string(info.status().message()),
            "--generation-config: " + (root_ / "nowhere").string() +
                "/generation_config.json: cannot be read: No such file or directory");
}

TEST_F(ModelInfoTest, model_without_the_file_has_no_defaults) {
  fs::remove(root_ / "model/generation_config.json");
  const auto info = read("auto");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->eos_token_ids, std::vector<int32_t>{1});
}

TEST_F(ModelInfoTest, value_that_cannot_be_is_refused_with_file_field_and_value) {
  const std::string path = (root_ / "model/generation_config.json").string();
  const auto refusal = [&](std::string_view text) {
    write("model/generation_config.json", text);
    return std::string(read("auto").status().message());
  };
  const std::string begin = path + ": ";
  EXPECT_EQ(refusal(R"({"temperature":"hot"})"),
            begin + "temperature is \"hot\", not a number in [0, 2]");
  EXPECT_EQ(refusal(R"({"top_p":0})"), begin + "top_p is 0, not a number in (0, 1]");
  EXPECT_EQ(refusal(R"({"top_k":-5})"), begin + "top_k is -5, not a whole number of at least -1");
  EXPECT_EQ(refusal(R"({"max_new_tokens":0})"),
            begin + "max_new_tokens is 0, not a whole number of at least 1");
  EXPECT_EQ(refusal(R"({"eos_token_id":[1,-2]})"),
            begin + "eos_token_id is [1,-2], not a token id in [0, 2147483647], or a list");
  write("model/config.json", R"({"eos_token_id":"x"})");
  EXPECT_EQ(std::string(read("auto").status().message()),
            (root_ / "model/config.json").string() +
                ": eos_token_id is \"x\", not a token id in [0, 2147483647], or a list");
}

TEST_F(ModelInfoTest, eos_beyond_the_vocabulary_is_dropped_and_named) {
  write("model/generation_config.json", R"({"eos_token_id":[2,9,99999999]})");
  ::testing::internal::CaptureStderr();
  const auto some = read("auto");
  const std::string said = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->eos_token_ids, std::vector<int32_t>{2});
  EXPECT_NE(said.find("[2,9,99999999]"), std::string::npos) << said;
  write("model/config.json", R"({"vocab_size":9,"eos_token_id":9})");
  write("model/generation_config.json", "{}");
  EXPECT_EQ(read("auto")->eos_token_ids, std::vector<int32_t>{});
}

TEST_F(ModelInfoTest, null_is_absent_and_all_is_a_top_k) {
  write("model/generation_config.json",
        R"({"temperature":null,"top_k":-1,"top_p":1,"eos_token_id":null,"max_new_tokens":null})");
  const auto info = read("auto");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->defaults.sampling.temperature, 1.0F);
  EXPECT_EQ(info->defaults.sampling.top_k, 0);
  EXPECT_EQ(info->eos_token_ids, std::vector<int32_t>{1});
}

TEST_F(ModelInfoTest, what_is_no_file_is_refused_and_not_waited_for) {
  const fs::path path = root_ / "model/generation_config.json";
  fs::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(std::string(read("auto").status().message()),
            "model: " + path.string() + ": is not a regular file");
}

}  // namespace
}  // namespace trireme::api
