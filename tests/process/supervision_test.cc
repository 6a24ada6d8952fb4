// The real launcher, node agent and coordinator as processes, over ranks and front ends that only
// join. Goal: start in any order, deaths of every kind, orderly stop, and clear words when a child
// cannot start.
//
// This program is all of them: it links itself under the programs' names into a folder of its own
// (the parents look for their children beside themselves) and acts by the name it was started with.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "api_server/launcher/launcher.h"
#include "common/log.h"
#include "common/options/serve_flags.h"
#include "common/process/child_process.h"
#include "common/process/last_word.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/poller.h"
#include "coordinator/coordinator_loop.h"
#include "engine_core/node_agent/node_agent.h"
#include "proto/member/cluster_context.h"
#include "proto/member/member_link.h"

namespace trireme {
namespace {

using Arguments = std::span<const char* const>;
using process::ChildProcess;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Joins as a rank or front end, is ready at once, and lives until it is told to stop. A front end
// answers each connection with its process id.
Status run_member(const ServeOptions& options, wire::Role role, uint32_t index, StopSignal& stop) {
  TRIREME_ASSIGN_OR_RETURN(const auto context, member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(auto link,
                           member::MemberLink::open(*context, options,
                                                    {.role = role,
                                                     .index = index,
                                                     .incarnation = Incarnation{entropy64()},
                                                     .config = member::cluster_config(options)}));
  link.set_ready({.block_count = 8, .block_tokens = 16, .http_address = "127.0.0.1:1"});
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  TRIREME_RETURN_IF_ERROR(poller.add(link.socket(), 1));
  TRIREME_RETURN_IF_ERROR(poller.add_fd(stop.fd(), 2));
  const int listener = role == wire::Role::kApiServer ? options.internal.listen_fd : -1;
  if (listener >= 0) TRIREME_RETURN_IF_ERROR(poller.add_fd(listener, 3));
  while (stop.update() == StopSignal::Level::kRun) {
    for (const zmq::Ready& ready : poller.wait(Deadline(link.wakeup()))) {
      if (ready.token != 3) continue;
      const UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
      const std::string answer = std::to_string(::getpid());
      (void)!::write(client.get(), answer.data(), answer.size());
    }
    link.do_work(now(), /*is_alive=*/true);
    while (auto event = link.next_event()) {
      const auto* refused = std::get_if<member::Refused>(&*event);
      if (refused != nullptr && refused->is_final) {
        return error(StatusCode::kFailedPrecondition, "%s", refused->reason);
      }
    }
  }
  link.leave("stopped");
  return absl::OkStatus();
}

Status act_as(const std::string& name, Arguments arguments) {
  TRIREME_ASSIGN_OR_RETURN(StopSignal stop, StopSignal::install());
  TRIREME_ASSIGN_OR_RETURN(const ServeOptions options, parse_serve_flags(arguments));
  if (name == "coordinator") {
    TRIREME_ASSIGN_OR_RETURN(const auto context, member::make_cluster_context(options));
    TRIREME_ASSIGN_OR_RETURN(const auto loop,
                             coordinator::CoordinatorLoop::create(*context, options));
    return loop->run(stop);
  }
  if (name == "engine-core") {
    if (!options.internal.is_engine_rank) return engine::run_node_agent(options, arguments, stop);
    if (options.model.model == "broken") {
      return error(StatusCode::kNotFound, "no config.json in 'broken'");
    }
    return run_member(options, wire::Role::kEngine, options.internal.engine_rank, stop);
  }
  if (options.internal.listen_fd < 0) return api::run_launcher(options, arguments, stop);
  return run_member(options, wire::Role::kApiServer, options.internal.api_server_index, stop);
}

class Program {
 public:
  Program(const std::string& path, std::vector<std::string> arguments) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    output_.reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    arguments.insert(arguments.begin(), path);
    child_ = ChildProcess::spawn(
        {.argv = std::move(arguments), .stdout_fd = write_end.get(), .stderr_fd = write_end.get()});
  }

  // Reads on until `text` has come after what was found before.
  bool says(const std::string& text) {
    const Deadline deadline = Deadline::after(seconds(20));
    std::size_t at;
    while ((at = text_.find(text, seen_)) == std::string::npos) {
      if (deadline.has_passed() || !read_more()) {
        ADD_FAILURE() << "'" << text << "' did not come after:\n" << text_.substr(seen_);
        return false;
      }
    }
    seen_ = at + text.size();
    return true;
  }
  // The number that follows `text`.
  pid_t pid_after(const std::string& text) {
    if (!says(text)) return -1;
    while (text_.find('\n', seen_) == std::string::npos && read_more()) {
    }
    return std::atoi(text_.c_str() + seen_);
  }
  int exit_code() {
    while (read_more()) {
    }
    const auto exit = child_->wait(Deadline::after(seconds(20)));
    return exit.ok() && exit->signal == 0 ? exit->code : -1;
  }
  void send_signal(int signal) { child_->send_signal(signal); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  bool read_more() {
    pollfd entry{.fd = output_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, 20'000) != 1) return false;
    char chunk[4096];
    const ssize_t got = ::read(output_.get(), chunk, sizeof(chunk));
    if (got > 0) text_.append(chunk, static_cast<std::size_t>(got));
    return got > 0;
  }

  UniqueFd output_;
  StatusOr<ChildProcess> child_ = absl::UnknownError("not started");
  std::string text_;
  std::size_t seen_ = 0;
};

int connect_to(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = ::htons(port);
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  return ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 ? fd : -1;
}

uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(fd.get(), generic, size) != 0 || ::getsockname(fd.get(), generic, &size) != 0)
    return 0;
  return ::ntohs(address.sin_port);
}

class Supervision : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/trireme-supervision-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    for (const char* const name : {"api-server", "engine-core", "coordinator"}) {
      // A copy where the build lies on another file system than /tmp.
      std::error_code code;
      std::filesystem::create_hard_link("/proc/self/exe", folder_ / name, code);
      if (code) std::filesystem::copy_file("/proc/self/exe", folder_ / name);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::vector<std::string> flags(std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"demo",
                                    "--data-parallel-size",
                                    "2",
                                    "--data-parallel-rpc-port",
                                    std::to_string(rpc_port_),
                                    "--host",
                                    "127.0.0.1",
                                    "--port",
                                    std::to_string(http_port_),
                                    "--lease-ms",
                                    "1000"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  [[nodiscard]] Program start(const char* program, std::vector<std::string> arguments) const {
    return {(folder_ / program).string(), std::move(arguments)};
  }
  // The process id of the front end that answers.
  [[nodiscard]] pid_t ask() const {
    const UniqueFd client(connect_to(http_port_));
    char answer[32] = {};
    if (::read(client.get(), answer, sizeof(answer) - 1) <= 0) return -1;
    return std::atoi(answer);
  }
  // A process that was not found must not become kill(-1): that is everybody.
  static void signal_one(pid_t pid, int signal) {
    ASSERT_GT(pid, 1);
    ::kill(pid, signal);
  }
  static bool is_gone(pid_t pid) {
    if (pid <= 1) return false;
    const Deadline deadline = Deadline::after(seconds(5));
    while (::kill(pid, 0) == 0) {
      if (deadline.has_passed()) return false;
      ::poll(nullptr, 0, 5);
    }
    return true;
  }

  std::filesystem::path folder_;
  uint16_t rpc_port_ = free_port();
  uint16_t http_port_ = free_port();
};

TEST_F(Supervision, a_cluster_starts_tells_its_tree_and_stops_in_order) {
  Program launcher = start("api-server", flags());
  EXPECT_TRUE(launcher.says("coordinator: up at tcp://127.0.0.1:"));
  EXPECT_TRUE(launcher.says("ready after "));
  EXPECT_TRUE(launcher.says("curl http://127.0.0.1:"));
  const pid_t coordinator = launcher.pid_after("├ coordinator   ");
  const pid_t rank = launcher.pid_after("├ rank 0    ");
  EXPECT_GT(ask(), 0);
  launcher.send_signal(SIGTERM);
  EXPECT_TRUE(launcher.says("api-server 0: stopped"));
  EXPECT_TRUE(launcher.says("node agent: stopped"));
  EXPECT_TRUE(launcher.says("coordinator: stopped"));
  EXPECT_EQ(launcher.exit_code(), 0);
  EXPECT_TRUE(is_gone(coordinator) && is_gone(rank));
}

TEST_F(Supervision, every_child_that_dies_comes_back) {
  Program launcher = start("api-server", flags());
  const pid_t coordinator = launcher.pid_after("├ coordinator   ");
  const pid_t agent = launcher.pid_after("└ node agent    ");
  const pid_t rank = launcher.pid_after("├ rank 0    ");
  const pid_t front = ask();

  ASSERT_NO_FATAL_FAILURE(signal_one(rank, SIGKILL));
  EXPECT_TRUE(launcher.says("rank 0: lost: killed by signal 9 (SIGKILL)"));
  EXPECT_TRUE(launcher.says("rank 0: ready"));

  ASSERT_NO_FATAL_FAILURE(signal_one(front, SIGSTOP));
  const UniqueFd waiting(connect_to(http_port_));  // Nobody answers it before the restart.
  ASSERT_NO_FATAL_FAILURE(signal_one(front, SIGKILL));
  char answer[32] = {};
  ASSERT_GT(::read(waiting.get(), answer, sizeof(answer) - 1), 0);
  EXPECT_NE(std::atoi(answer), front);

  ASSERT_NO_FATAL_FAILURE(signal_one(coordinator, SIGKILL));
  EXPECT_TRUE(launcher.says("coordinator: up"));

  ASSERT_NO_FATAL_FAILURE(signal_one(agent, SIGKILL));
  EXPECT_TRUE(launcher.says("node agent: killed by signal 9 (SIGKILL), restart in"));
  EXPECT_TRUE(launcher.says("rank 0: ready"));
  launcher.send_signal(SIGTERM);
  EXPECT_EQ(launcher.exit_code(), 0);
}

TEST_F(Supervision, killed_launcher_leaves_nobody) {
  Program launcher = start("api-server", flags());
  const pid_t coordinator = launcher.pid_after("├ coordinator   ");
  const pid_t agent = launcher.pid_after("└ node agent    ");
  const pid_t rank = launcher.pid_after("└ rank 1    ");
  launcher.send_signal(SIGKILL);
  EXPECT_TRUE(is_gone(coordinator) && is_gone(agent) && is_gone(rank));
}

TEST_F(Supervision, a_rank_that_cannot_start_ends_it_with_its_last_words) {
  std::vector<std::string> arguments = flags();
  arguments[0] = "broken";
  Program launcher = start("api-server", arguments);
  EXPECT_EQ(launcher.exit_code(), 1);
  EXPECT_NE(launcher.text().find("no config.json in 'broken'"), std::string::npos);
  EXPECT_NE(launcher.text().find(" cannot start: no config.json in 'broken'"), std::string::npos)
      << launcher.text();
}

TEST_F(Supervision, a_headless_node_may_come_first) {
  Program node = start("engine-core", flags({"--headless", "--data-parallel-size-local", "1",
                                             "--data-parallel-address", "127.0.0.1"}));
  Program launcher =
      start("api-server", flags({"--data-parallel-size-local", "1", "--data-parallel-start-rank",
                                 "1", "--data-parallel-address", "127.0.0.1"}));
  EXPECT_TRUE(launcher.says("ready after "));
  EXPECT_TRUE(node.says("rank 0: ready"));
  node.send_signal(SIGTERM);
  EXPECT_EQ(node.exit_code(), 0);
  EXPECT_TRUE(launcher.says("rank 0: left: stopped"));
  launcher.send_signal(SIGTERM);
  EXPECT_EQ(launcher.exit_code(), 0);
}

TEST_F(Supervision, with_external_balancing_each_node_has_its_own_front_end) {
  const uint16_t other_port = free_port();
  Program second = start("api-server", flags({"--data-parallel-external-lb", "--data-parallel-rank",
                                              "1", "--port", std::to_string(other_port)}));
  Program first =
      start("api-server", flags({"--data-parallel-external-lb", "--data-parallel-rank", "0"}));
  EXPECT_TRUE(first.says("├ coordinator") && first.says("└ rank 0"));
  EXPECT_TRUE(second.says("ready after ") && second.says("├ api-server 64"));
  EXPECT_TRUE(second.says("└ rank 1"));
  EXPECT_EQ(second.text().find("├ coordinator"), std::string::npos);
  for (Program* const launcher : {&second, &first}) {
    launcher->send_signal(SIGTERM);
    EXPECT_EQ(launcher->exit_code(), 0);
  }
}

TEST_F(Supervision, a_node_of_another_configuration_is_refused_by_name) {
  Program launcher = start("api-server", flags({"--data-parallel-size-local", "1"}));
  ASSERT_TRUE(launcher.says("rank 0: ready"));
  Program node =
      start("engine-core", flags({"--headless", "--data-parallel-size-local", "1",
                                  "--data-parallel-start-rank", "1", "--dtype", "float32"}));
  EXPECT_EQ(node.exit_code(), 1);
  EXPECT_NE(node.text().find("configuration differs in --dtype"), std::string::npos) << node.text();
}

TEST_F(Supervision, a_taken_port_is_told_before_anything_starts) {
  Program first = start("api-server", flags());
  ASSERT_TRUE(first.says("ready after "));
  Program second = start("api-server", flags());
  EXPECT_EQ(second.exit_code(), 1);
  EXPECT_NE(second.text().find("--port " + std::to_string(http_port_)), std::string::npos);
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  const std::string name = std::filesystem::path(argv[0]).filename().string();
  if (name == "api-server" || name == "engine-core" || name == "coordinator") {
    trireme::log::start(name);
    const trireme::Arguments arguments(argv + 1, static_cast<std::size_t>(argc - 1));
    return trireme::process::end_with(trireme::act_as(name, arguments));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
