#include "common/hub/hub_cache.h"

#include <gtest/gtest.h>

#include <fstream>

namespace trireme::hub {
namespace {

namespace fs = std::filesystem;

class HubCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / "trireme_hub_cache_test";
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  fs::path root_;
};

TEST_F(HubCacheTest, layout_is_that_of_the_hub_tools) {
  const HubCache cache(root_, "org/name");
  EXPECT_EQ(cache.snapshot("c0ffee"), root_ / "models--org--name/snapshots/c0ffee");
  EXPECT_EQ(cache.blob("abc"), root_ / "models--org--name/blobs/abc");
}

TEST_F(HubCacheTest, branch_is_found_through_its_ref) {
  const HubCache cache(root_, "org/name");
  EXPECT_FALSE(cache.find("main").has_value());
  write(cache.ref("main"), "c0ffee\n");
  write(cache.snapshot("c0ffee") / "config.json", "{}");
  EXPECT_EQ(cache.find("main"), cache.snapshot("c0ffee"));
  EXPECT_EQ(cache.find("c0ffee"), cache.snapshot("c0ffee"));
}

TEST_F(HubCacheTest, snapshot_with_a_dangling_link_is_not_found) {
  const HubCache cache(root_, "org/name");
  write(cache.ref("main"), "c0ffee");
  write(cache.snapshot("c0ffee") / "config.json", "{}");
  fs::create_symlink("../../blobs/gone", cache.snapshot("c0ffee") / "model.safetensors");
  EXPECT_FALSE(cache.find("main").has_value());
}

TEST(HubId, paths_are_not_hub_ids) {
  EXPECT_TRUE(looks_like_hub_id("meta-llama/Llama-3.2-1B"));
  EXPECT_TRUE(looks_like_hub_id("gpt2"));
  for (const char* text : {"", "/a/b", "a/b/c", "./a", "../a", "a/", "a b/c", "a/..b", "-a/b"}) {
    EXPECT_FALSE(looks_like_hub_id(text)) << text;
  }
}

}  // namespace
}  // namespace trireme::hub
