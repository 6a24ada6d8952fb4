// Goal: the answer of GET /experts adds up what the engines' workers have counted, and nothing that
// they say breaks it.
#include "api_server/expert_page.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

wire::UtilityReply reply(std::vector<wire::ExpertTable> tables) {
  return {.ok = true, .expert_tables = std::move(tables)};
}

// Two layers of two experts.
wire::ExpertTable table(uint32_t place, std::vector<uint32_t> routed,
                        std::vector<uint32_t> computed) {
  return {.place = place,
          .expert_count = 2,
          .window_size = 1000,
          .routed = std::move(routed),
          .computed = std::move(computed)};
}

TEST(ExpertPage, without_anything_counted_it_is_empty) {
  const char* const empty =
      R"({"window_size":0,"balancedness":null,"avg_tokens":0.00,"max_tokens":0,)"
      R"("layers":[],"workers":[]})";
  EXPECT_EQ(render_experts({}), empty);
  EXPECT_EQ(render_experts({{0, reply({wire::ExpertTable{}})}}), empty);
}

TEST(ExpertPage, rows_of_all_ranks_are_added_by_layer_and_expert) {
  wire::ExpertTable first = table(0, {1, 2, 3, 4}, {10, 20});
  first.replica_counts = {1, 2, 1, 1};
  first.replica_places = {0, 0, 1, 1, 0};
  EXPECT_EQ(render_experts({{0, reply({first})}, {1, reply({table(1, {5, 0, 0, 7}, {30, 20})})}}),
            R"({"window_size":1000,"balancedness":0.8000,"avg_tokens":40.00,"max_tokens":50,)"
            R"("layers":[{"balancedness":0.6667,"avg_tokens":20.00,"max_tokens":30,)"
            R"("rows":[6,2],"places":[[0],[0,1]]},)"
            R"({"balancedness":1.0000,"avg_tokens":20.00,"max_tokens":20,)"
            R"("rows":[3,11],"places":[[1],[0]]}],)"
            R"("workers":[{"rank":0,"stage":0,"place":0,"rows":[10,20]},)"
            R"({"rank":1,"stage":0,"place":1,"rows":[30,20]}]})");
}

TEST(ExpertPage, layers_of_later_stages_come_after_those_before) {
  wire::ExpertTable later = table(0, {5, 6, 7, 8}, {1, 1});
  later.stage = 1;
  const std::string page = render_experts({{0, reply({later, table(0, {1, 2, 3, 4}, {1, 1})})}});
  EXPECT_LT(page.find(R"("rows":[3,4])"), page.find(R"("rows":[5,6])"));
  EXPECT_NE(page.find(R"("stage":1)"), std::string::npos);
}

TEST(ExpertPage, what_does_not_fit_together_is_left_out) {
  wire::ExpertTable broken = table(1, {5, 0, 0}, {30, 20});
  wire::ExpertTable other = table(2, {9, 9}, {9});
  wire::ExpertTable misplaced = table(0, {1, 2, 3, 4}, {10, 20});
  misplaced.replica_counts = {4'000'000'000, 1, 1, 1};
  misplaced.replica_places = {0};
  const std::string page =
      render_experts({{0, reply({misplaced})}, {1, reply({broken})}, {2, reply({other})}});
  EXPECT_NE(page.find(R"("rows":[1,2],"places":[])"), std::string::npos) << page;
  EXPECT_EQ(page.find(R"("rank":1)"), std::string::npos);
  EXPECT_EQ(page.find(R"("rank":2)"), std::string::npos);
}

}  // namespace
}  // namespace trireme::api
