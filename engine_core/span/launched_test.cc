// Tests of what a rank that a launcher started takes itself for.
#include "engine_core/span/launched.h"

#include <gtest/gtest.h>

#include <map>

#include "common/options/serve_flags.h"

namespace trireme::engine {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment_of(Variables variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

Variables open_mpi(uint32_t rank, uint32_t size) {
  return {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_SIZE", std::to_string(size)},
          {"OMPI_COMM_WORLD_LOCAL_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(size)}};
}

// What the rank's own command line comes to.
StatusOr<ServeOptions> resolve(std::vector<std::string> flags, const Environment& environment) {
  flags.insert(flags.begin(), "/model");
  flags.insert(flags.end(), {"--distributed-executor-backend", "external_launcher"});
  const auto parse = [&]() -> StatusOr<ServeOptions> {
    std::vector<const char*> pointers;
    for (const std::string& flag : flags) pointers.push_back(flag.c_str());
    return parse_serve_flags(pointers);
  };
  TRIREME_ASSIGN_OR_RETURN(const ServeOptions options, parse());
  TRIREME_ASSIGN_OR_RETURN(const LaunchedRank launched, find_launched_rank(environment));
  TRIREME_ASSIGN_OR_RETURN(const auto more, launched_arguments(options, launched, environment));
  flags.insert(flags.end(), more.begin(), more.end());
  return parse();
}

TEST(Launched, ranks_fill_one_engine_after_the_other) {
  for (uint32_t rank = 0; rank < 8; ++rank) {
    const auto options = resolve({"-tp", "2", "-pp", "2", "--data-parallel-size", "2"},
                                 environment_of(open_mpi(rank, 8)));
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->internal.engine_rank, rank / 4);
    EXPECT_EQ(options->parallel.node_rank, rank % 4);
    EXPECT_EQ(options->parallel.node_count, 4u);
    EXPECT_EQ(options->parallel.executor, Executor::kMp);
    EXPECT_EQ(options->internal.node_worker_index, rank);
    EXPECT_EQ(options->internal.node_worker_count, 8u);
  }
}

TEST(Launched, wrong_number_of_ranks_is_told_with_both) {
  const auto options = resolve({"-tp", "2", "-pp", "2"}, environment_of(open_mpi(0, 3)));
  ASSERT_FALSE(options.ok());
  EXPECT_EQ(options.status().message(),
            "the launcher started 3 ranks, but 1 engines (--data-parallel-size) x "
            "--tensor-parallel-size 2 x --pipeline-parallel-size 2 need 4");
}

TEST(Launched, without_a_launcher_it_says_how_to_start) {
  const auto options = resolve({}, environment_of({}));
  ASSERT_FALSE(options.ok());
  EXPECT_NE(options.status().message().find("mpirun"), std::string::npos);
}

TEST(Launched, every_launcher_is_understood) {
  for (const Variables& variables :
       {open_mpi(1, 2), Variables{{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}},
        Variables{{"RANK", "1"}, {"WORLD_SIZE", "2"}},
        Variables{{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}}}) {
    const auto launched = find_launched_rank(environment_of(variables));
    ASSERT_TRUE(launched.ok()) << launched.status();
    EXPECT_EQ(launched->rank, 1u);
    EXPECT_EQ(launched->size, 2u);
  }
}

TEST(Launched, torchrun_inside_another_launcher_is_the_one_that_counts) {
  Variables variables = open_mpi(0, 1);
  variables.insert({{"TORCHELASTIC_RUN_ID", "x"}, {"RANK", "3"}, {"WORLD_SIZE", "4"}});
  EXPECT_EQ(find_launched_rank(environment_of(variables))->rank, 3u);
}

TEST(Launched, master_is_the_launchers_unless_flags_say_otherwise) {
  Variables variables = open_mpi(1, 2);
  variables["MASTER_ADDR"] = "10.0.0.7";
  variables["MASTER_PORT"] = "4000";
  auto options = resolve({"-tp", "2"}, environment_of(variables));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->parallel.master_address, "10.0.0.7");
  EXPECT_EQ(options->parallel.master_port, 4000);
  options = resolve({"-tp", "2", "--master-addr", "10.0.0.8", "--master-port", "5000"},
                    environment_of(variables));
  EXPECT_EQ(options->parallel.master_address, "10.0.0.8");
  EXPECT_EQ(options->parallel.master_port, 5000);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(resolve({"-tp", "2"}, environment_of(variables))->parallel.master_port, 29501);
}

TEST(Launched, ranks_on_several_nodes_need_an_address_of_the_first) {
  Variables variables = open_mpi(1, 2);
  variables["OMPI_COMM_WORLD_LOCAL_RANK"] = "0";
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  const auto options = resolve({"-tp", "2"}, environment_of(variables));
  ASSERT_FALSE(options.ok());
  EXPECT_NE(options.status().message().find("--master-addr"), std::string::npos);
}

}  // namespace
}  // namespace trireme::engine
