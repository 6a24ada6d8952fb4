#include "common/options/config_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/options/serve_flags.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() : path_(fs::temp_directory_path() / "trireme_config_file_test.yaml") {
    fs::remove_all(path_);
  }
  ~ConfigFile() override { fs::remove_all(path_); }

  // What is wrong, after "--config PATH: ".
  [[nodiscard]] std::string refusal(const std::string& text) const {
    std::ofstream(path_) << text;
    return refusal();
  }
  [[nodiscard]] std::string refusal() const {
    const std::vector<const char*> args = {"m", "--config", path_.c_str()};
    const Status status = parse_serve_flags(args).status();
    const std::string message(status.message());
    const std::string begin = "--config " + path_.string() + ": ";
    return message.starts_with(begin) ? message.substr(begin.size()) : "other: " + message;
  }

  const fs::path path_;
};

TEST_F(ConfigFile, a_flag_with_one_value_takes_no_list_of_several) {
  EXPECT_EQ(refusal("port: [9000, 9001]\n"), "port has several values, but takes one");
  EXPECT_EQ(refusal("port: 9000\nport: 9001\n"), "port has several values, but takes one");
  EXPECT_EQ(refusal("port: [9000]\napi-key: [a, b]\n"), "other: ");
}

TEST_F(ConfigFile, a_flag_with_json_takes_a_map) {
  std::ofstream(path_) << "speculative-config:\n  method: ngram\n  num_speculative_tokens: 3\n"
                          "  prompt_lookup_max: 4\n";
  const std::vector<const char*> args = {"m", "--config", path_.c_str()};
  const auto options = parse_serve_flags(args);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->scheduler.speculation.method, "ngram");
  EXPECT_EQ(options->scheduler.speculation.tokens_max, 3u);
  EXPECT_EQ(options->scheduler.speculation.longest(), 4u);
}

TEST_F(ConfigFile, what_is_wrong_in_it_is_told_with_the_flag_and_the_file) {
  EXPECT_EQ(refusal("port: many\n"), "--port: 'many' is not a number in range");
  EXPECT_EQ(refusal("[1]\n"), "not a map of flags");
}

TEST_F(ConfigFile, a_directory_is_refused) {
  fs::create_directory(path_);
  EXPECT_EQ(refusal(), "is a directory; name the YAML file in it");
}

TEST_F(ConfigFile, a_pipe_is_refused_and_not_waited_for) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(refusal(), "is not a regular file, which every process can read");
}

TEST_F(ConfigFile, one_that_is_not_there_is_told_in_the_systems_words) {
  EXPECT_EQ(refusal(), "cannot be read: No such file or directory");
}

}  // namespace
}  // namespace trireme
