#include "common/zmq/cluster_key.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace trireme::zmq {
namespace {

class ClusterKeyFile : public testing::Test {
 protected:
  ClusterKeyFile() : folder_(testing::TempDir() + "/cluster_key_test." + std::to_string(getpid())) {
    std::filesystem::create_directories(folder_ + "/.config/trireme");
  }
  ~ClusterKeyFile() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text, mode_t mode) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string folder_;
};

TEST(ClusterKey, text_comes_back_as_the_same_key) {
  const ClusterKey key = ClusterKey::generate();
  const auto parsed = ClusterKey::parse("\n " + key.text() + "\r\n");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->text(), key.text());
}

TEST(ClusterKey, two_keys_differ) {
  EXPECT_NE(ClusterKey::generate().text(), ClusterKey::generate().text());
}

TEST(ClusterKey, text_that_is_no_key_is_refused_without_repeating_it) {
  const std::string good = ClusterKey::generate().text();
  std::string swapped = good;
  swapped.back() = swapped.back() == '0' ? '1' : '0';
  for (const std::string& bad :
       {std::string(), std::string("hunter2"), good.substr(0, good.size() - 1), good + "0", swapped,
        "trireme-key-2:" + good.substr(14), good.substr(0, 93) + "~"}) {
    const auto parsed = ClusterKey::parse(bad);
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << bad;
    if (!bad.empty()) {
      EXPECT_EQ(parsed.status().message().find(bad), std::string_view::npos) << bad;
    }
  }
}

TEST_F(ClusterKeyFile, file_that_others_may_read_is_refused_with_the_way_out) {
  const ClusterKey key = ClusterKey::generate();
  for (const mode_t mode : {0644, 0640, 0604, 0620}) {
    const std::string path = write("open.key", key.text(), mode);
    const auto read = ClusterKey::read_file(path);
    EXPECT_FALSE(read.ok());
    EXPECT_NE(std::string(read.status().message()).find("chmod 600 " + path), std::string::npos);
  }
  const auto read = ClusterKey::read_file(write("closed.key", key.text() + "\n", 0600));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->text(), key.text());
}

TEST_F(ClusterKeyFile, flag_beats_variable_beats_home) {
  const ClusterKey flag = ClusterKey::generate(), variable = ClusterKey::generate(),
                   home = ClusterKey::generate();
  ClusterKeySources sources{.flag_path = write("flag.key", flag.text(), 0600),
                            .variable = variable.text(),
                            .home = folder_};
  write(".config/trireme/cluster.key", home.text(), 0600);
  EXPECT_EQ((*find_cluster_key(sources))->text(), flag.text());
  sources.flag_path.clear();
  EXPECT_EQ((*find_cluster_key(sources))->text(), variable.text());
  sources.variable.clear();
  EXPECT_EQ((*find_cluster_key(sources))->text(), home.text());
}

TEST_F(ClusterKeyFile, flag_that_names_no_file_is_an_error) {
  const auto found =
      find_cluster_key({.flag_path = folder_ + "/none.key", .variable = {}, .home = folder_});
  EXPECT_EQ(found.status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme::zmq
