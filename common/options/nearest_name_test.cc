#include "common/options/nearest_name.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr std::string_view kKnown[] = {"serve", "pull", "--help", "--version"};

TEST(NearestName, mistyped_or_cut_name_is_found) {
  EXPECT_EQ(nearest_name("serv", kKnown), "serve");
  EXPECT_EQ(nearest_name("sevre", kKnown), "serve");
  EXPECT_EQ(nearest_name("--hepl", kKnown), "--help");
  EXPECT_EQ(nearest_name("--vers", kKnown), "--version");
}

TEST(NearestName, name_that_is_like_none_suggests_none) {
  EXPECT_EQ(nearest_name("bench", kKnown), "");
  EXPECT_EQ(nearest_name("x", {}), "");
}

}  // namespace
}  // namespace trireme
