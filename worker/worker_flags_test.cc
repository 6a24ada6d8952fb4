#include "worker/worker_flags.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

StatusOr<WorkerCommandLine> parse(std::vector<const char*> arguments) {
  return parse_worker_arguments(arguments);
}

TEST(WorkerFlags, come_back_as_they_were_told) {
  const WorkerFlags flags{
      .steps_fd = 5, .results_fd = 6, .collective_fd = 7, .pipe_out_fd = 9, .rank = 3};
  const std::vector<std::string> told = worker_arguments(flags);
  std::vector<const char*> arguments;
  for (const std::string& argument : told) arguments.push_back(argument.c_str());
  arguments.insert(arguments.end(), {"/model", "--port", "80"});
  const StatusOr<WorkerCommandLine> line = parse(arguments);
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->flags, flags);
  EXPECT_EQ(std::vector<std::string>(line->serve_arguments.begin(), line->serve_arguments.end()),
            (std::vector<std::string>{"/model", "--port", "80"}));
}

TEST(WorkerFlags, bad_values_are_named) {
  EXPECT_FALSE(parse({"--internal-worker-fds"}).ok());
  EXPECT_FALSE(parse({"--internal-worker-fds", "steps"}).ok());
  EXPECT_FALSE(parse({"--internal-worker-fds", "colour=4"}).ok());
  EXPECT_FALSE(parse({"--internal-worker-rank", "-1"}).ok());
  EXPECT_EQ(std::string(parse({"--internal-worker-rank", "4x"}).status().message()),
            "--internal-worker-rank: \"4x\" is not a value of it");
}

TEST(WorkerFlags, those_of_workers_on_several_nodes_survive_the_command_line) {
  const WorkerFlags flags{
      .collective_fd = 4,
      .life_fd = 8,
      .weights_fd = 9,
      .mesh_fd = 10,
      .rank = 3,
      .group = UINT64_MAX,
      .peers = {{.is_in = true, .rank = 1, .fd = 9, .endpoint = "tcp://[::1]:5"},
                {.rank = 1, .endpoint = "tcp://10.0.0.1:6"},
                {.is_in = true, .rank = 2, .fd = 7}},
      .steps_endpoint = "tcp://10.0.0.1:1",
      .results_endpoint = "tcp://10.0.0.1:2",
      .remote_index = 1};
  const std::vector<std::string> arguments = worker_arguments(flags);
  std::vector<const char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
  const auto line = parse_worker_arguments(pointers);
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->flags, flags);
}

TEST(WorkerFlags, broken_peers_and_engines_are_named) {
  for (const auto& [flag, value] : {std::pair("--internal-worker-peer", "up:1:2:x"),
                                    std::pair("--internal-worker-peer", "in:1"),
                                    std::pair("--internal-worker-engine", "1,tcp://a:1"),
                                    std::pair("--internal-worker-group", "-1")}) {
    const char* const arguments[] = {flag, value};
    const auto line = parse_worker_arguments(arguments);
    ASSERT_FALSE(line.ok());
    EXPECT_NE(std::string(line.status().message()).find(value), std::string::npos);
  }
}

}  // namespace
}  // namespace trireme::worker
