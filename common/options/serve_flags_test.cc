#include "common/options/serve_flags.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace trireme {
namespace {

StatusOr<ServeOptions> parse(std::vector<const char*> args,
                             std::vector<std::string>* notices = nullptr) {
  return parse_serve_flags(args, notices);
}

std::string message(const StatusOr<ServeOptions>& result) {
  return std::string(result.status().message());
}

TEST(ServeFlags, two_node_command_of_the_peer_reads_as_it_is) {
  const auto o =
      parse({"m", "--headless", "--tensor-parallel-size", "4", "--data-parallel-size", "4",
             "--data-parallel-size-local", "2", "--data-parallel-start-rank", "0",
             "--data-parallel-address", "10.99.48.128", "--data-parallel-rpc-port", "13345"});
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->model.model, "m");
  EXPECT_TRUE(o->parallel.headless);
  EXPECT_EQ(o->parallel.tensor_parallel_size, 4u);
  EXPECT_EQ(o->parallel.data_parallel_rpc_port, 13345);
  EXPECT_EQ(o->parallel.load_balancing, LoadBalancing::kInternal);
}

TEST(ServeFlags, short_forms_equals_signs_and_underscores_are_the_same) {
  for (const char* spelling : {"-dp=3", "--data-parallel-size=3", "--data_parallel_size=3"}) {
    const auto o = parse({"m", spelling});
    ASSERT_TRUE(o.ok()) << o.status();
    EXPECT_EQ(o->parallel.data_parallel_size, 3u) << spelling;
  }
}

TEST(ServeFlags, start_rank_in_front_does_not_change_the_balancing_mode) {
  const auto o = parse({"m", "-dp", "4", "-dpl", "2", "-dpr", "2"});
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->parallel.load_balancing, LoadBalancing::kInternal);
}

TEST(ServeFlags, switches_take_no_and_values) {
  EXPECT_FALSE(parse({"m", "--no-enable-prefix-caching"})->scheduler.prefix_caching);
  EXPECT_FALSE(parse({"m", "--enable-prefix-caching=false"})->scheduler.prefix_caching);
  EXPECT_TRUE(parse({"m", "--enable-prefix-caching"})->scheduler.prefix_caching);
}

TEST(ServeFlags, units_of_numbers_are_the_peers) {
  EXPECT_EQ(parse({"m", "--max-model-len", "1k"})->model.model_tokens_max, 1000u);
  EXPECT_EQ(parse({"m", "--max-model-len", "1K"})->model.model_tokens_max, 1024u);
}

TEST(ServeFlags, typo_suggests_the_nearest_flag) {
  EXPECT_EQ(message(parse({"m", "--tensor-paralel-size", "2"})),
            "unknown flag --tensor-paralel-size; did you mean --tensor-parallel-size?");
  EXPECT_EQ(message(parse({"m", "--tensor-paralel", "2"})),
            "unknown flag --tensor-paralel; did you mean --tensor-parallel-size?");
  EXPECT_EQ(message(parse({"m", "--zzzzzzzz"})), "unknown flag --zzzzzzzz; see --help");
}

TEST(ServeFlags, bad_value_names_flag_and_value) {
  EXPECT_EQ(message(parse({"m", "--port", "70000"})), "--port: '70000' is not a number in range");
  EXPECT_EQ(message(parse({"m", "--dtype", "int3"})),
            "--dtype: 'int3' is not one of auto, bfloat16, float16, float32");
  EXPECT_EQ(message(parse({"m", "--port"})), "--port needs a value");
}

TEST(ServeFlags, ranks_beyond_the_cluster_are_refused_with_numbers) {
  EXPECT_EQ(message(parse({"m", "-dp", "4", "-dpl", "2", "-dpr", "3"})),
            "ranks 3..4 (--data-parallel-start-rank 3, --data-parallel-size-local 2) do not fit "
            "--data-parallel-size 4");
}

TEST(ServeFlags, flag_without_effect_gives_a_notice) {
  std::vector<std::string> notices;
  ASSERT_TRUE(parse({"m", "--enforce-eager"}, &notices).ok());
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0], "--enforce-eager has no effect: there is no compilation to turn off");
}

TEST(ServeFlags, unsupported_flag_is_refused_with_its_reason) {
  EXPECT_EQ(message(parse({"m", "--enable-lora"})),
            "--enable-lora is not supported: adapters are not supported");
}

TEST(ServeFlags, config_file_gives_flags_and_the_command_line_wins) {
  const std::string path = std::filesystem::temp_directory_path() / "trireme_serve_flags_test.yaml";
  std::ofstream(path) << "model: a\nport: 9000\nheadless: false\nserved-model-name: [x, y]\n";
  const auto o = parse({"--config", path.c_str(), "--port", "9001"});
  std::filesystem::remove(path);
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->model.model, "a");
  EXPECT_EQ(o->server.port, 9001);
  EXPECT_EQ(o->model.served_model_names, (std::vector<std::string>{"x", "y"}));
}

TEST(ServeFlags, missing_config_file_is_named) {
  EXPECT_EQ(message(parse({"--config", "/nonexistent.yaml"})),
            "--config /nonexistent.yaml: cannot be read");
}

TEST(ServeFlags, names_are_unique_and_working_rows_store) {
  std::set<std::string_view> names;
  for (const FlagRow& row : serve_flags()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    const bool stores = row.effect == FlagEffect::kWorks || row.effect == FlagEffect::kInternal;
    EXPECT_EQ(row.store != nullptr, stores) << row.name;
    if (row.short_name.empty()) continue;
    EXPECT_TRUE(names.insert(row.short_name).second) << row.name;
  }
}

// The page is made from the table; TRIREME_REWRITE_GOLDEN writes it anew.
TEST(ServeFlags, docs_page_equals_the_table) {
  const std::string path = "docs/flags.md";
  if (std::getenv("TRIREME_REWRITE_GOLDEN") != nullptr) std::ofstream(path) << serve_flags_page();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), serve_flags_page());
}

}  // namespace
}  // namespace trireme
