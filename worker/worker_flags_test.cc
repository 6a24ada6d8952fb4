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

}  // namespace
}  // namespace trireme::worker
