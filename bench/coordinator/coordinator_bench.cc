// coordinator_bench [MEMBERS]: a real coordinator process under a large cluster, default 1,024.
//
// This process plays the members, each with a connection and a MemberLink of its own: 4
// api-servers, the others engines that report a new load ten times a second. It prints
//
//   coordinator.join_ms      from the first Hello until everyone holds a view of all
//   coordinator.cpu_percent  of one core, the coordinator's, over kSteadyTime         budget 10
//   coordinator.view_ms      from an engine's leave until the last of the others holds the new
//   view,
//                            the median of kChanges                                   budget 100
//   coordinator.view_max_ms  the worst of them
//   coordinator.resident_mb
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/micro/figure.h"
#include "common/options/serve_flags.h"
#include "common/process/child_process.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "proto/member/cluster_context.h"
#include "proto/member/member_link.h"

namespace trireme {
namespace {

constexpr uint32_t kMembers = 1024;
constexpr uint32_t kFrontEnds = 4;
constexpr Duration kReportInterval = std::chrono::milliseconds(100);
constexpr int kSlices = 20;  // The members report in turn, so that the load is even.
constexpr Duration kSteadyTime = std::chrono::seconds(10);
constexpr Duration kPatience = std::chrono::seconds(60);
constexpr int kChanges = 9;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "coordinator_bench: %s\n", why.c_str());
  std::exit(EXIT_FAILURE);
}

template <typename Value>
Value or_die(StatusOr<Value> value) {
  if (!value.ok()) die(std::string(value.status().message()));
  return *std::move(value);
}

std::string free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(fd.get(), generic, size) != 0 || ::getsockname(fd.get(), generic, &size) != 0) {
    die("no free port");
  }
  return std::to_string(::ntohs(address.sin_port));
}

// A socket of ZeroMQ takes up to three descriptors.
void allow_descriptors(rlim_t count) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min(limit.rlim_max, std::max(limit.rlim_cur, count));
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Duration cpu_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.empty()) die("the coordinator is gone");
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  int64_t user = 0, system = 0;
  fields >> user >> system;
  return std::chrono::nanoseconds((user + system) * 1'000'000'000 / ::sysconf(_SC_CLK_TCK));
}

double resident_megabytes(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1048576;
}

class Cluster {
 public:
  Cluster(uint32_t members, const std::string& coordinator)
      : words_({"demo", "--data-parallel-size", std::to_string(members - kFrontEnds),
                "--data-parallel-rpc-port", free_port()}),
        options_(or_die(parse_serve_flags(pointers()))),
        context_(or_die(member::make_cluster_context(options_))),
        child_(spawn(coordinator)) {
    links_.reserve(members);
    for (uint32_t i = 0; i < members; ++i) links_.push_back(open(i));
  }

  [[nodiscard]] pid_t coordinator() const { return child_.pid(); }
  [[nodiscard]] std::size_t size() const { return links_.size(); }
  [[nodiscard]] Epoch epoch() const { return links_.front().view().epoch; }

  void leave(std::size_t index) { links_[index].leave("bench"); }
  void rejoin(std::size_t index) { links_[index] = open(static_cast<uint32_t>(index)); }

  // Turns all members without pause; how long it took until the condition held.
  Duration until(const char* what, const std::function<bool()>& condition) {
    const Instant begin = now();
    while (!condition()) {
      if (now() - begin > kPatience) die(std::string("not in time: ") + what);
      for (member::MemberLink& link : links_) work(link);
    }
    return now() - begin;
  }

  // All but the last one hold a view above `epoch`.
  [[nodiscard]] bool others_are_beyond(Epoch epoch) const {
    return std::all_of(links_.begin(), links_.end() - 1,
                       [&](const auto& link) { return link.view().epoch > epoch; });
  }
  // Everyone holds the same view, and everyone is ready in it.
  [[nodiscard]] bool is_complete() const {
    const wire::View& view = links_.front().view();
    const auto is_ready = [](const auto& m) { return m.state == wire::MemberState::kReady; };
    return view.members.size() == links_.size() &&
           std::all_of(links_.begin(), links_.end(),
                       [&](const auto& link) { return link.view().epoch == view.epoch; }) &&
           std::all_of(view.members.begin(), view.members.end(), is_ready);
  }

  void report_for(Duration time) {
    const Instant end = now() + time;
    Instant next = now();
    for (uint32_t turn = 0; now() < end; ++turn) {
      next += kReportInterval / kSlices;
      for (std::size_t i = turn % kSlices; i < links_.size(); i += kSlices) {
        if (i >= kFrontEnds) links_[i].report_load({.waiting = turn});
        work(links_[i]);
      }
      std::this_thread::sleep_until(next);
    }
  }

 private:
  [[nodiscard]] std::vector<const char*> pointers() const {
    std::vector<const char*> pointers;
    for (const std::string& word : words_) pointers.push_back(word.c_str());
    return pointers;
  }
  process::ChildProcess spawn(const std::string& coordinator) const {
    process::ChildOptions options{.argv = {coordinator}};
    options.argv.insert(options.argv.end(), words_.begin(), words_.end());
    return or_die(process::ChildProcess::spawn(options));
  }
  member::MemberLink open(uint32_t index) {
    const bool is_front_end = index < kFrontEnds;
    auto link = or_die(member::MemberLink::open(
        *context_, options_,
        {.role = is_front_end ? wire::Role::kApiServer : wire::Role::kEngine,
         .index = is_front_end ? index : index - kFrontEnds,
         .incarnation = Incarnation{entropy64()},
         .config = member::cluster_config(options_)}));
    link.set_ready({.addresses = {"tcp://127.0.0.1:40000"},
                    .block_count = 1000,
                    .block_tokens = 16,
                    .model_tokens_max = 2048});
    return link;
  }
  static void work(member::MemberLink& link) {
    link.do_work(now(), /*is_alive=*/true);  // Its events are bounded, and of no use here.
  }

  std::vector<std::string> words_;
  ServeOptions options_;
  std::unique_ptr<zmq::Context> context_;
  process::ChildProcess child_;
  std::vector<member::MemberLink> links_;
};

double milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

void measure_changes(Cluster& cluster) {
  std::vector<Duration> times;
  const std::size_t last = cluster.size() - 1;
  for (int i = 0; i < kChanges; ++i) {
    const Epoch before = cluster.epoch();
    cluster.leave(last);
    times.push_back(cluster.until("a view without the one that left",
                                  [&] { return cluster.others_are_beyond(before); }));
    cluster.rejoin(last);
    cluster.until("a view with the one that came back", [&] { return cluster.is_complete(); });
  }
  bench::print_figure("coordinator.view_ms", milliseconds(bench::percentile(times, 0.5)), "ms");
  bench::print_figure("coordinator.view_max_ms", milliseconds(bench::percentile(times, 1)), "ms");
}

void run(uint32_t members) {
  allow_descriptors(rlim_t{4} * members);
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  Cluster cluster(members, self.parent_path().parent_path() / "bin/coordinator");
  const Duration joined =
      cluster.until("everyone in everyone's view", [&] { return cluster.is_complete(); });
  bench::print_figure("coordinator.join_ms", milliseconds(joined), "ms");
  cluster.report_for(std::chrono::seconds(1));
  const Duration before = cpu_of(cluster.coordinator());
  const Instant begin = now();
  cluster.report_for(kSteadyTime);
  const Duration cpu = cpu_of(cluster.coordinator()) - before;
  bench::print_figure("coordinator.cpu_percent",
                      100 * milliseconds(cpu) / milliseconds(now() - begin), "% of one core");
  measure_changes(cluster);
  bench::print_figure("coordinator.resident_mb", resident_megabytes(cluster.coordinator()), "MiB");
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  uint32_t members = trireme::kMembers;
  if (argc > 1) {
    const std::string_view text = argv[1];
    std::from_chars(text.data(), text.data() + text.size(), members);
    if (members <= trireme::kFrontEnds) trireme::die("MEMBERS is a number above 4");
  }
  trireme::run(members);
}
