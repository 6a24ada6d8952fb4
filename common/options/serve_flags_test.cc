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

TEST(ServeFlags, offload_takes_a_size_a_place_and_one_backend) {
  const auto o = parse({"m", "--kv-offloading-size", "1.5", "--kv-offloading-path", "/d",
                        "--kv-offloading-backend", "native"});
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->scheduler.kv_offloading_gib, 1.5);
  EXPECT_EQ(o->scheduler.kv_offloading_path, "/d");
  EXPECT_FALSE(parse({"m", "--kv-offloading-size", "-1"}).ok());
  EXPECT_FALSE(parse({"m", "--kv-offloading-size", "nan"}).ok());
  EXPECT_FALSE(parse({"m", "--kv-offloading-path", "/d"}).ok()) << "nothing is offloaded";
  EXPECT_FALSE(parse({"m", "--kv-offloading-size", "1", "--no-enable-prefix-caching"}).ok());
  EXPECT_FALSE(parse({"m", "--kv-offloading-backend", "lmcache"}).ok());
}

TEST(ServeFlags, units_of_numbers_are_the_peers) {
  EXPECT_EQ(parse({"m", "--max-model-len", "1k"})->model.model_tokens_max, 1000u);
  EXPECT_EQ(parse({"m", "--max-model-len", "1K"})->model.model_tokens_max, 1024u);
}

TEST(ServeFlags, longest_text_of_no_token_is_refused) {
  EXPECT_EQ(message(parse({"m", "--max-model-len", "0"})),
            "--max-model-len: 0 leaves no room for a prompt; auto or -1: what the model allows");
  EXPECT_EQ(parse({"m", "--max-model-len", "-1"})->model.model_tokens_max, 0u);
}

TEST(ServeFlags, help_of_a_group_is_the_help) {
  for (const char* flag : {"--help", "-h", "--help=all", "--help=ModelConfig", "--help="}) {
    const char* args[] = {"m", flag};
    EXPECT_EQ(help_or_version("trireme serve", args), serve_help("trireme serve")) << flag;
  }
  const char* args[] = {"m", "--helpful"};
  EXPECT_EQ(help_or_version("trireme serve", args), "");
}

TEST(ServeFlags, typo_suggests_the_nearest_flag) {
  EXPECT_EQ(message(parse({"m", "--tensor-paralel-size", "2"})),
            "unknown flag --tensor-paralel-size; did you mean --tensor-parallel-size?");
  EXPECT_EQ(message(parse({"m", "--tensor-paralel", "2"})),
            "unknown flag --tensor-paralel; did you mean --tensor-parallel-size?");
  EXPECT_EQ(message(parse({"m", "--hepl"})), "unknown flag --hepl; did you mean --help?");
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
  EXPECT_EQ(
      message(parse({"m", "-dp", "2", "-dpr", "2"})),
      "--data-parallel-start-rank 2 does not fit --data-parallel-size 2, whose ranks are 0 to "
      "1");
  EXPECT_EQ(message(parse({"m", "-dp", "2", "--data-parallel-rank", "1", "-dpl", "2"})),
            "ranks 1..2 (--data-parallel-rank 1, --data-parallel-size-local 2) do not fit "
            "--data-parallel-size 2");
}

TEST(ServeFlags, a_refusal_names_no_flag_that_was_not_given) {
  EXPECT_EQ(message(parse({"m", "-dp", "2", "-dpl", "3"})),
            "--data-parallel-size-local 3 is more than --data-parallel-size 2");
  EXPECT_EQ(message(parse({"m", "--nnodes", "0"})), "--nnodes 0: must be at least 1");
  EXPECT_EQ(message(parse({"m", "--nnodes", "2", "--node-rank", "2", "-tp", "2"})),
            "--node-rank 2 does not fit --nnodes 2, whose nodes are 0 to 1");
  EXPECT_EQ(message(parse({"m", "--node-rank", "1"})),
            "--node-rank 1 needs --nnodes, the number of nodes that an engine spans");
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

TEST(ServeFlags, refused_flag_takes_every_value_that_changes_nothing) {
  for (const char* const value : {"auto", "vllm"}) {
    EXPECT_TRUE(parse({"m", "--model-impl", value}).ok()) << value;
  }
  for (const char* const value : {"terratorch", "", "auto;vllm"}) {
    EXPECT_EQ(message(parse({"m", "--model-impl", value})),
              "--model-impl is not supported: models are Trireme's own");
  }
}

TEST(ServeFlags, compilation_has_all_of_its_spellings_and_one_notice_for_each_flag) {
  std::vector<std::string> notices;
  const auto whole =
      parse({"m", "-O3", "-O", "2", "-O.mode=3", "-cc.mode=3", "-cc.backend", "x", "--port", "9000",
             "--compilation_config", R"({"cudagraph_mode": "FULL"})"},
            &notices);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->server.port, 9000);
  EXPECT_EQ(notices, (std::vector<std::string>{
                         "--optimization-level has no effect: nothing is compiled at start",
                         "--compilation-config has no effect: nothing is compiled at start"}));
}

TEST(ServeFlags, parts_of_a_json_that_is_read_are_refused) {
  EXPECT_EQ(message(parse({"m", "--speculative-config.method", "ngram"})),
            "--speculative-config.method: give --speculative-config its whole JSON at once");
  EXPECT_EQ(message(parse({"m", "--port.x=1"})), "unknown flag --port.x; did you mean --port?");
}

// The names of vLLM's flags, versions 0.10 to 0.32, each on a line.
TEST(ServeFlags, no_flag_of_vllm_serve_is_unknown) {
  std::ifstream file("tests/golden/options/vllm_serve_flags.txt");
  std::size_t count = 0;
  for (std::string name; std::getline(file, name); ++count) {
    EXPECT_FALSE(message(parse({"m", name.c_str()})).starts_with("unknown flag")) << name;
  }
  EXPECT_GT(count, 250u);
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

// Writes the text as a file and parses `args` with it as --config.
StatusOr<ServeOptions> parse_with_file(const std::string& text, std::vector<const char*> args) {
  const std::string path = std::filesystem::temp_directory_path() / "trireme_serve_flags_2.yaml";
  std::ofstream(path) << text;
  args.insert(args.end(), {"--config", path.c_str()});
  auto options = parse(args);
  std::filesystem::remove(path);
  return options;
}

TEST(ServeFlags, command_line_wins_over_the_file_in_lists_too) {
  const auto o = parse_with_file("model: a\napi-key: [k1]\nserved-model-name: [x, y]\n",
                                 {"m", "--api-key", "k2", "--served-model-name", "z"});
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->model.model, "m");
  EXPECT_EQ(o->server.api_keys, (std::vector<std::string>{"k2"}));
  EXPECT_EQ(o->model.served_model_names, (std::vector<std::string>{"z"}));
}

TEST(ServeFlags, file_may_turn_a_switch_off) {
  EXPECT_FALSE(
      parse_with_file("no-enable-prefix-caching: true\n", {"m"})->scheduler.prefix_caching);
  EXPECT_TRUE(
      parse_with_file("no-enable-prefix-caching: false\n", {"m"})->scheduler.prefix_caching);
}

TEST(ServeFlags, list_takes_the_words_up_to_the_next_flag_and_may_be_repeated) {
  const auto o = parse({"m", "--served-model-name", "a", "b", "--api-key", "k1", "k2", "--port",
                        "9000", "--api-key=k3"});
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->model.model, "m");
  EXPECT_EQ(o->model.served_model_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(o->server.api_keys, (std::vector<std::string>{"k1", "k2", "k3"}));
}

TEST(ServeFlags, model_behind_a_list_is_told_where_it_belongs) {
  EXPECT_EQ(message(parse({"--served-model-name", "a", "m"})),
            "no model is given: --served-model-name takes every word up to the next flag, 'm' too; "
            "put the model first");
}

TEST(ServeFlags, second_word_without_a_flag_is_refused) {
  EXPECT_EQ(message(parse({"m", "--port", "9000", "b"})),
            "unexpected 'b': the model is given already");
}

TEST(ServeFlags, command_line_without_a_flag_keeps_all_else_in_order) {
  const std::vector<const char*> line = {"m", "--api-key", "a",  "b",           "-dp",
                                         "2", "-",         "-x", "--api_key=c", "--headless"};
  std::vector<std::string> rest;
  for (const char* const word : without_flag(line, "api-key")) rest.emplace_back(word);
  EXPECT_EQ(rest, (std::vector<std::string>{"m", "-dp", "2", "-", "-x", "--headless"}));
}

TEST(ServeFlags, negated_switch_takes_no_value) {
  EXPECT_EQ(message(parse({"m", "--no-headless=true"})), "--no-headless takes no value ('true')");
}

TEST(ServeFlags, default_of_the_peer_is_accepted_where_all_else_is_refused) {
  EXPECT_TRUE(parse({"m", "--logprobs-mode", "raw_logprobs"}).ok());
}

TEST(ServeFlags, element_of_the_kv_cache_is_one_that_the_cpu_computes_in) {
  EXPECT_EQ(parse({"m", "--cpu-kernels", "avx2"})->worker.cpu_kernels, "avx2");
  EXPECT_EQ(message(parse({"m", "--cpu-kernels", "sse"})),
            "--cpu-kernels: 'sse' is not one of auto, amx, avx512, avx2, plain");
  EXPECT_EQ(parse({"m", "--kv-cache-dtype", "int8"})->worker.kv_cache_dtype, "int8");
  EXPECT_EQ(message(parse({"m", "--kv-cache-dtype", "fp8_e4m3"})),
            "--kv-cache-dtype: 'fp8_e4m3' is not supported: CPUs do not compute in it; int8 is as "
            "small");
  EXPECT_EQ(message(parse({"m", "--kv-cache-dtype", "int4"})),
            "--kv-cache-dtype: 'int4' is not one of auto, bfloat16, int8");
}

TEST(ServeFlags, device_is_one_that_workers_know_and_the_last_one_holds) {
  EXPECT_EQ(parse({"m"})->worker.device, DeviceKind::kAuto);
  EXPECT_EQ(parse({"m", "--device", "cpu"})->worker.device, DeviceKind::kCpu);
  EXPECT_EQ(parse({"m", "--device", "cpu", "--device", "cuda"})->worker.device, DeviceKind::kCuda);
  EXPECT_EQ(message(parse({"m", "--device", "tpu"})),
            "--device: 'tpu' is not one of auto, cpu, cuda");
}

TEST(ServeFlags, device_of_a_worker_needs_a_worker_process) {
  EXPECT_TRUE(parse({"m", "--device", "auto", "--distributed-executor-backend", "uni"}).ok());
  EXPECT_TRUE(parse({"m", "--device", "cuda", "--distributed-executor-backend", "mp"}).ok());
  for (const char* const executor : {"uni", "sim"}) {
    EXPECT_EQ(message(parse({"m", "--device", "cuda", "--distributed-executor-backend", executor})),
              "--device cuda: with --distributed-executor-backend " + std::string(executor) +
                  " there is no worker process; use mp, or --device cpu");
  }
}

TEST(ServeFlags, block_size_is_checked_before_anything_starts) {
  for (const char* const size : {"16", "32", "64", "128", "256"}) {
    EXPECT_TRUE(parse({"m", "--block-size", size}).ok()) << size;
  }
  for (const char* const size : {"0", "8", "24", "512"}) {
    EXPECT_EQ(message(parse({"m", "--block-size", size})),
              "--block-size " + std::string(size) + ": must be a power of two from 16 to 256");
  }
}

TEST(ServeFlags, certificate_may_hold_its_key_but_no_key_stands_alone) {
  EXPECT_TRUE(parse({"m", "--ssl-certfile", "both.pem"}).ok());
  EXPECT_EQ(message(parse({"m", "--ssl-keyfile", "k.pem"})), "--ssl-keyfile needs --ssl-certfile");
}

TEST(ServeFlags, headless_node_has_no_api_servers) {
  EXPECT_EQ(message(parse({"m", "--headless", "--api-server-count", "2"})),
            "--api-server-count 2: with --headless there is no HTTP server");
  EXPECT_TRUE(
      parse({"m", "--headless", "--api-server-count", "2", "--api-server-count", "0"}).ok());
}

TEST(ServeFlags, seed_and_memory_share_are_told_from_their_defaults) {
  EXPECT_FALSE(parse({"m"})->model.seed.has_value());
  EXPECT_EQ(parse({"m", "--seed", "0"})->model.seed, 0u);
  EXPECT_FALSE(parse({"m"})->scheduler.memory_utilization.has_value());
  EXPECT_EQ(parse({"m", "--gpu-memory-utilization", "0.9"})->scheduler.memory_utilization, 0.9);
}

TEST(ServeFlags, missing_config_file_is_named) {
  EXPECT_EQ(message(parse({"--config", "/nonexistent.yaml"})),
            "--config /nonexistent.yaml: cannot be read: No such file or directory");
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
