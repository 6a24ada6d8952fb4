#include <gtest/gtest.h>

#include "common/options/pooler.h"
#include "common/options/serve_flags.h"

namespace trireme {
namespace {

StatusOr<ServeOptions> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "no-such-model");
  std::vector<std::string> notices;
  return parse_serve_flags(arguments, &notices);
}

std::string message(const StatusOr<ServeOptions>& parsed) {
  return std::string(parsed.status().message());
}

TEST(PoolerFlags, a_model_is_served_for_embeddings_if_a_flag_says_so) {
  for (const auto& [flag, value, embeds] : {std::tuple{"--runner", "pooling", true},
                                            {"--runner", "auto", false},
                                            {"--runner", "generate", false},
                                            {"--convert", "embed", true},
                                            {"--convert", "none", false},
                                            {"--task", "embed", true}}) {
    const auto options = parse({flag, value});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(serves_embeddings(*options), embeds) << flag << " " << value;
  }
}

TEST(PoolerFlags, a_kind_that_is_not_there_is_refused_with_the_choices) {
  EXPECT_EQ(message(parse({"--runner", "draft"})),
            "--runner: 'draft' is not one of auto, generate, pooling");
  EXPECT_EQ(message(parse({"--convert", "classify"})),
            "--convert: 'classify' is not supported: use auto, none or embed");
}

TEST(PoolerFlags, pooler_config_says_how_to_pool) {
  const auto options =
      parse({"--pooler-config", R"({"pooling_type": "MEAN", "normalize": false})"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->model.pooler.pooling_type, "MEAN");
  EXPECT_EQ(options->model.pooler.normalize, false);
  EXPECT_EQ(message(parse({"--pooler-config", R"({"pooling_type": "MAX"})"})),
            "--pooler-config: pooling_type: 'MAX' is not one of CLS, MEAN, LAST");
  EXPECT_EQ(message(parse({"--pooler-config", R"({"step_tag_id": 3})"})),
            "--pooler-config: step_tag_id: is not supported; there are pooling_type and normalize");
}

}  // namespace
}  // namespace trireme
