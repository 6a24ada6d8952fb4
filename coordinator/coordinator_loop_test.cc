// Tests of the control channel over real sockets on loopback: MemberLink against CoordinatorLoop.
#include "coordinator/coordinator_loop.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <algorithm>

#include <functional>
#include <optional>
#include <vector>

#include "common/random.h"
#include "common/unique_fd.h"
#include "common/zmq/context.h"
#include "common/zmq/dealer.h"
#include "common/zmq/poller.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_key.h"
#include "proto/member/member_link.h"

namespace trireme::coordinator {
namespace {

using member::MemberLink;
using std::chrono::milliseconds;
using std::chrono::seconds;

uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(fd.get(), generic, size) != 0) return 0;
  if (::getsockname(fd.get(), generic, &size) != 0) return 0;
  return ::ntohs(address.sin_port);
}

class CoordinatorLoopTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.parallel.data_parallel_size = 2;
    options_.parallel.data_parallel_rpc_port = free_port();
    options_.cluster.lease_milliseconds = 400;
    auto context = zmq::Context::create({});
    ASSERT_TRUE(context.ok()) << context.status();
    context_ = *std::move(context);
    start_coordinator();
  }

  void start_coordinator() {
    // The port of the one before is free once its context has closed the socket in the background.
    const auto is_started = [&] {
      auto loop = CoordinatorLoop::create(*context_, options_);
      if (loop.ok()) loop_ = *std::move(loop);
      return loop.ok();
    };
    ASSERT_TRUE(until(is_started));
  }

  MemberLink& add_member(wire::Role role, uint32_t index) {
    auto link = MemberLink::open(*context_, options_,
                                 {.role = role,
                                  .index = index,
                                  .incarnation = Incarnation{entropy64()},
                                  .config = member::cluster_config(options_)});
    EXPECT_TRUE(link.ok()) << link.status();
    links_.push_back(*std::move(link));
    return links_.back();
  }

  // Turns everything until the condition holds; false after 10 s.
  bool until(const std::function<bool()>& condition) {
    const Deadline deadline = Deadline::after(seconds(10));
    while (!condition()) {
      if (deadline.has_passed()) return false;
      if (loop_ != nullptr) loop_->turn(Deadline::after(milliseconds(1)));
      for (MemberLink& link : links_) link.do_work(now(), /*is_alive=*/true);
    }
    return true;
  }
  template <typename Wanted>
  bool gets(MemberLink& link, std::optional<Wanted>& wanted) {
    return until([&] {
      while (auto event = link.next_event()) {
        if (auto* found = std::get_if<Wanted>(&*event)) {
          wanted = *found;
          return true;
        }
      }
      return false;
    });
  }

  ServeOptions options_;
  std::unique_ptr<zmq::Context> context_;
  std::unique_ptr<CoordinatorLoop> loop_;
  std::vector<MemberLink> links_;
};

TEST_F(CoordinatorLoopTest, members_join_and_see_one_another) {
  links_.reserve(2);
  MemberLink& engine = add_member(wire::Role::kEngine, 1);
  MemberLink& server = add_member(wire::Role::kApiServer, 0);
  engine.set_ready({.block_count = 77});
  server.set_ready({.addresses = {"tcp://127.0.0.1:5"}});
  const auto is_complete = [](const MemberLink& link) {
    const auto& members = link.view().members;
    return members.size() == 2 && members[0].ready.block_count == 77 &&
           members[1].ready.addresses.size() == 1;
  };
  EXPECT_TRUE(until([&] { return is_complete(engine) && is_complete(server); }));
}

TEST_F(CoordinatorLoopTest, load_reaches_the_front_ends) {
  links_.reserve(2);
  MemberLink& engine = add_member(wire::Role::kEngine, 0);
  MemberLink& server = add_member(wire::Role::kApiServer, 0);
  ASSERT_TRUE(until([&] { return engine.is_joined() && server.is_joined(); }));
  engine.report_load({.waiting = 9});
  std::optional<wire::LoadBoard> board;
  ASSERT_TRUE(gets(server, board));
  EXPECT_EQ(board->reports.at(0).stats.waiting, 9u);
}

TEST_F(CoordinatorLoopTest, a_wave_starts_at_every_rank_also_at_the_one_that_asked) {
  links_.reserve(2);
  MemberLink& first = add_member(wire::Role::kEngine, 0);
  MemberLink& second = add_member(wire::Role::kEngine, 1);
  first.set_ready({.block_count = 77});
  second.set_ready({.block_count = 77});
  const auto are_ready = [&] {
    const auto& members = first.view().members;
    return std::ranges::count_if(members, [](const wire::Member& member) {
             return member.state == wire::MemberState::kReady;
           }) == 2;
  };
  ASSERT_TRUE(until(are_ready));
  second.set_wave(wire::WaveEventKind::kStart, WaveId{0});
  std::optional<wire::StartWave> at_first, at_second;
  EXPECT_TRUE(gets(first, at_first));
  EXPECT_TRUE(gets(second, at_second));
}

TEST_F(CoordinatorLoopTest, a_restarted_coordinator_gets_everybody_back_at_a_higher_epoch) {
  links_.reserve(2);
  MemberLink& engine = add_member(wire::Role::kEngine, 0);
  MemberLink& server = add_member(wire::Role::kApiServer, 0);
  engine.set_ready({.block_count = 77});
  ASSERT_TRUE(until([&] {
    return server.view().members.size() == 2 &&
           server.view().members[0].state == wire::MemberState::kReady;
  }));
  const Epoch before = server.view().epoch;
  const Incarnation old = server.view().coordinator;
  loop_.reset();
  start_coordinator();
  ASSERT_TRUE(until([&] { return server.view().coordinator != old; }));
  EXPECT_GT(server.view().epoch, before);
  ASSERT_EQ(server.view().members.size(), 2u);  // Never a view without the engine.
  EXPECT_EQ(server.view().members[0].state, wire::MemberState::kReady);
}

TEST_F(CoordinatorLoopTest, a_rank_out_of_range_is_refused) {
  MemberLink& engine = add_member(wire::Role::kEngine, 2);
  std::optional<member::Refused> refused;
  ASSERT_TRUE(gets(engine, refused));
  EXPECT_TRUE(refused->is_final);
}

TEST_F(CoordinatorLoopTest, garbage_is_counted_and_disturbs_nobody) {
  auto stranger = zmq::Dealer::create(*context_, "stranger");
  ASSERT_TRUE(stranger.ok());
  ASSERT_TRUE(stranger->connect(member::control_endpoint(options_)).ok());
  auto liar =
      zmq::Dealer::create(*context_, wire::to_routing_id({wire::Role::kEngine, 0, Incarnation{5}}));
  ASSERT_TRUE(liar.ok());
  ASSERT_TRUE(liar->connect(member::control_endpoint(options_)).ok());
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<std::byte> bytes(random.below(64));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
    (void)stranger->try_send(bytes);
    (void)liar->try_send(bytes);
  }
  MemberLink& engine = add_member(wire::Role::kEngine, 0);
  EXPECT_TRUE(until([&] { return engine.is_joined() && loop_->garbage_total() == 400; }));
}

TEST_F(CoordinatorLoopTest, what_was_dropped_is_told_to_the_front_ends) {
  links_.reserve(1);
  MemberLink& server = add_member(wire::Role::kApiServer, 0);
  ASSERT_TRUE(until([&] { return server.is_joined(); }));
  auto stranger = zmq::Dealer::create(*context_, "stranger");
  ASSERT_TRUE(stranger->connect(member::control_endpoint(options_)).ok());
  ASSERT_EQ(stranger->try_send(zmq::Bytes(std::vector(3, std::byte{1}))), zmq::SendResult::kSent);
  std::optional<wire::LoadBoard> board;
  // Of handshakes that overlap, one that fails may be counted later (handshake_monitor.h).
  ASSERT_TRUE(until([&] { return gets(server, board) && board->stats.undecodable == 1; }));
  {
    const UniqueFd raw(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = ::htons(*options_.parallel.data_parallel_rpc_port);
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(raw.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::send(raw.get(), "\xff garbage", 9, MSG_NOSIGNAL), 9);
  }
  const wire::CoordinatorStats wanted{.handshakes_failed = 1, .undecodable = 1};
  EXPECT_TRUE(until([&] { return gets(server, board) && board->stats == wanted; }));
}

TEST_F(CoordinatorLoopTest, a_port_that_is_taken_is_named) {
  const auto second = CoordinatorLoop::create(*context_, options_);
  EXPECT_NE(second.status().message().find("--data-parallel-rpc-port"), std::string_view::npos);
}

TEST_F(CoordinatorLoopTest, an_address_beyond_loopback_needs_a_key) {
  options_.parallel.data_parallel_address = "10.1.2.3";
  options_.parallel.data_parallel_size_local = 1;
  const auto loop = CoordinatorLoop::create(*context_, options_);
  EXPECT_NE(loop.status().message().find("--insecure-cluster"), std::string_view::npos)
      << loop.status();
}

}  // namespace
}  // namespace trireme::coordinator
