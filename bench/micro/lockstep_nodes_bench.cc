// How long ranks on several nodes take to agree on a step: one rank a node, a process each, and TCP
// between them, on loopback.
//
//   nodes_round_trip_us   a record that goes up, and the answer to it; the median
//   agree_nodes_N_us      from a rank's record to the order that follows from all, the median of
//                         the slowest rank; one round trip is what a tree of one level can do
// The engine has its sockets on a thread of its own; here they are the rank's.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "bench/micro/figure.h"
#include "common/zmq/context.h"
#include "engine_core/lockstep/peer_links.h"
#include "engine_core/lockstep/tree_exchange.h"

namespace trireme::bench {
namespace {

constexpr uint64_t kWarmup = 500;
constexpr uint64_t kSteps = 5'000;
constexpr WaveId kPings{1};
constexpr WaveId kAgreements{2};

template <typename Value>
Value required(StatusOr<Value> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "lockstep_nodes_bench: %s\n", std::string(value.status().message()).c_str());
  ::_exit(1);
}

class Node final : private engine::StepCarrier {
 public:
  Node(uint32_t node, uint32_t count) : node_(node) {
    for (uint32_t rank = 0; rank < count; ++rank) start_.ranks.push_back(rank);
    start_.nodes = start_.ranks;
    start_.addresses.resize(count, {""});
  }

  [[nodiscard]] const std::string& endpoint() const { return links_->endpoint(); }
  void reach(const std::string& root) { start_.addresses.front() = {root}; }

  // Of two: node 1 asks, node 0 answers. Empty for node 0.
  std::vector<Duration> ping() {
    links_->begin_wave(kPings, node_, {start_.addresses.front().front(), ""});
    std::vector<Duration> taken;
    for (uint64_t step = 1; step <= kWarmup + kSteps; ++step) {
      const Instant begin = now();
      wire::StepAgreement message{.wave = kPings, .step = step, .from_node = node_};
      if (node_ == 1) links_->send(0, message);
      (void)receive();
      message.is_down = true;
      if (node_ == 0) links_->send(1, message);
      if (node_ == 1 && step > kWarmup) taken.push_back(now() - begin);
    }
    return taken;
  }

  std::vector<Duration> agree() {
    auto parts = required(engine::StepBoard::create(node_, 1));
    auto board =
        required(engine::StepBoard::attach(std::move(parts.memory), std::move(parts.bells), node_));
    engine::TreeExchange exchange(node_, std::move(board), *this);
    start_.wave = kAgreements;
    exchange.enter(start_);
    std::vector<Duration> taken;
    for (uint64_t step = 1; step <= kWarmup + kSteps; ++step) {
      const Instant begin = now();
      exchange.post({.wave = kAgreements, .step = step, .has_work = true}, start_.ranks);
      while (!exchange.gather(kAgreements, step, start_.ranks)) {
        const wire::StepAgreement message = receive();
        if (message.wave == kAgreements) exchange.hear(message);
      }
      if (step > kWarmup) taken.push_back(now() - begin);
    }
    // The last answer of the root is on its way.
    ::usleep(100'000);
    return taken;
  }

 private:
  void begin_wave(WaveId wave, uint32_t own_node, std::vector<std::string> addresses) override {
    links_->begin_wave(wave, own_node, addresses);
  }
  void send(uint32_t node, const wire::StepAgreement& message) override {
    links_->send(node, message);
  }
  wire::StepAgreement receive() {
    while (true) {
      if (auto message = links_->receive()) return *message;
      (void)poller_.wait(Deadline(now() + std::chrono::seconds(1)));
    }
  }

  uint32_t node_;
  wire::StartWave start_;
  std::unique_ptr<zmq::Context> context_ = required(zmq::Context::create({}));
  zmq::Poller poller_ = required(zmq::Poller::create());
  std::unique_ptr<engine::PeerLinks> links_ = required(engine::PeerLinks::listen(
      *context_, poller_, "127.0.0.1", "node-" + std::to_string(node_), /*first_token=*/1));
};

struct Medians {
  double round_trip = 0;
  double agreement = 0;
};

double median(const std::vector<Duration>& taken) {
  return taken.empty() ? 0 : microseconds(percentile(taken, 0.5));
}

void write_all(int fd, const void* data, std::size_t size) {
  if (::write(fd, data, size) != static_cast<ssize_t>(size)) ::_exit(1);
}
void read_all(int fd, void* data, std::size_t size) {
  if (::read(fd, data, size) != static_cast<ssize_t>(size)) std::exit(1);
}

// A process of a node: the root tells where it listens, the others are told.
void run_node(uint32_t node, uint32_t count, int endpoints_in, int endpoints_out, int out) {
  Node self(node, count);
  char endpoint[64] = {};
  if (node == 0) {
    self.endpoint().copy(endpoint, sizeof(endpoint) - 1);
    for (uint32_t i = 1; i < count; ++i) write_all(endpoints_out, endpoint, sizeof(endpoint));
  } else {
    read_all(endpoints_in, endpoint, sizeof(endpoint));
    self.reach(endpoint);
  }
  Medians medians;
  if (count == 2) medians.round_trip = median(self.ping());
  medians.agreement = median(self.agree());
  write_all(out, &medians, sizeof(medians));
}

void measure(uint32_t count) {
  int endpoints[2];
  int results[2];
  if (::pipe(endpoints) != 0 || ::pipe(results) != 0) std::exit(1);
  for (uint32_t node = 0; node < count; ++node) {
    if (::fork() != 0) continue;
    run_node(node, count, endpoints[0], endpoints[1], results[1]);
    ::_exit(0);
  }
  Medians worst;
  for (uint32_t node = 0; node < count; ++node) {
    Medians one;
    read_all(results[0], &one, sizeof(one));
    worst.round_trip = std::max(worst.round_trip, one.round_trip);
    worst.agreement = std::max(worst.agreement, one.agreement);
  }
  while (::wait(nullptr) > 0) {
  }
  if (count == 2) print_figure("nodes_round_trip_us", worst.round_trip, "us");
  print_figure(("agree_nodes_" + std::to_string(count) + "_us").c_str(), worst.agreement, "us");
}

}  // namespace
}  // namespace trireme::bench

int main() {
  for (const uint32_t count : {2U, 4U}) trireme::bench::measure(count);
  return 0;
}
