// --internal-demo-model: what the source tree's front door serves where no model is named.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/options/serve_flags.h"

namespace trireme {
namespace {

StatusOr<ServeOptions> parse(std::vector<const char*> args) {
  args.insert(args.begin(), "--internal-demo-model=models/demo");
  return parse_serve_flags(args);
}

TEST(DemoModel, is_served_under_its_own_name_by_two_engines_where_no_model_is_named) {
  for (const auto& line : std::vector<std::vector<const char*>>{{}, {"--port", "9000"}}) {
    const auto o = parse(line);
    ASSERT_TRUE(o.ok()) << o.status();
    EXPECT_EQ(o->model.model, "models/demo");
    EXPECT_EQ(o->model.served_model_names, std::vector<std::string>{"demo"});
    EXPECT_EQ(o->parallel.data_parallel_size, 2u);
  }
}

TEST(DemoModel, changes_nothing_where_a_model_is_named_wherever_that_stands) {
  for (const auto& line : std::vector<std::vector<const char*>>{
           {"m"}, {"--port", "9000", "m"}, {"--model", "m"}, {"--seed=1", "--model=m"}}) {
    const auto o = parse(line);
    ASSERT_TRUE(o.ok()) << o.status();
    EXPECT_EQ(o->model.model, "m");
    EXPECT_TRUE(o->model.served_model_names.empty());
    EXPECT_EQ(o->parallel.data_parallel_size, 1u);
  }
}

TEST(DemoModel, an_empty_name_is_a_mistake_and_not_the_demo) {
  EXPECT_EQ(parse({"--model", ""})->model.model, "");
}

TEST(DemoModel, what_is_said_of_names_and_engines_wins) {
  const auto named = parse({"--served-model-name", "a", "-dp", "1"});
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->model.served_model_names, std::vector<std::string>{"a"});
  EXPECT_EQ(named->parallel.data_parallel_size, 1u);
  EXPECT_EQ(parse({"-dpl", "1"})->parallel.data_parallel_size, 1u);
  EXPECT_EQ(parse({"--data_parallel_size=3"})->parallel.data_parallel_size, 3u);
}

TEST(DemoModel, a_config_file_names_the_model_and_the_engines_too) {
  const std::string path = std::filesystem::temp_directory_path() / "trireme_demo_model_test.yaml";
  std::ofstream(path) << "model: m\nserved-model-name: [a, b]\n";
  const auto with_model = parse({"--config", path.c_str()});
  std::ofstream(path) << "data-parallel-size: 3\n";
  const auto without = parse({"--config", path.c_str()});
  std::filesystem::remove(path);
  ASSERT_TRUE(with_model.ok() && without.ok());
  EXPECT_EQ(with_model->model.model, "m");
  EXPECT_EQ(with_model->model.served_model_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(with_model->parallel.data_parallel_size, 1u);
  EXPECT_EQ(without->model.model, "models/demo");
  EXPECT_EQ(without->parallel.data_parallel_size, 3u);
}

// "a m" may be two names, or a name and the model.
TEST(DemoModel, a_list_that_may_have_taken_the_model_is_refused) {
  EXPECT_FALSE(parse({"--served-model-name", "a", "m"}).ok());
}

}  // namespace
}  // namespace trireme
