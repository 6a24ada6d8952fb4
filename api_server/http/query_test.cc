#include "api_server/http/query.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

TEST(Query, a_value_is_found_by_its_whole_name_and_the_last_one_counts) {
  EXPECT_EQ(query_value("mode=abort&clear_cache=true", "clear_cache"), "true");
  EXPECT_EQ(query_value("mode=abort&mode=keep", "mode"), "keep");
  EXPECT_EQ(query_value("amode=x&mode2=y", "mode"), std::nullopt);
  EXPECT_EQ(query_value("", "mode"), std::nullopt);
  EXPECT_EQ(query_value("&&=&mode", "mode"), "");
  EXPECT_EQ(query_value("mode=a=b", "mode"), "a=b");
}

TEST(Query, all_values_of_a_name_are_found_in_their_order) {
  EXPECT_EQ(query_values("tags=b&x=1&tags=a&tags", "tags"),
            (std::vector<std::string>{"b", "a", ""}));
  EXPECT_TRUE(query_values("tag=b", "tags").empty());
}

TEST(Query, escapes_are_undone_and_broken_ones_stay) {
  EXPECT_EQ(query_value("%6dode=%6B+ep", "mode"), "k ep");
  EXPECT_EQ(query_value("mode=%", "mode"), "%");
  EXPECT_EQ(query_value("mode=%4", "mode"), "%4");
  EXPECT_EQ(query_value("mode=%zz%-1", "mode"), "%zz%-1");
}

}  // namespace
}  // namespace trireme::api
