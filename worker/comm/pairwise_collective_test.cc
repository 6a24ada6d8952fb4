// Ranks that are threads of this process, each with a pipe per pair: over loopback sockets, and
// mixed with shared memory as where some of the group share a node.
#include "worker/comm/pairwise_collective.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "common/random.h"
#include "common/zmq/context.h"
#include "worker/comm/remote_pipe.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/comm/waits_for_test.h"

namespace trireme::worker {
namespace {

constexpr Duration kPatient = std::chrono::seconds(30);

std::vector<float> part_of(uint32_t rank, std::size_t count) {
  Random random(rank + 1);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2e3 - 1e3);
  return values;
}

using Pipes = std::pair<std::unique_ptr<HiddenPipe>, std::unique_ptr<HiddenPipe>>;

Pipes shm_pipes(uint32_t from, uint32_t to) {
  auto made = ShmPipe::create_memory();
  EXPECT_TRUE(made.ok()) << made.status();
  const auto memory = std::make_shared<const shm::Mapping>(*std::move(made));
  return {*ShmPipe::attach(memory, to, kPatient), *ShmPipe::attach(memory, from, kPatient)};
}

class PairwiseCollectiveTest : public ::testing::Test {
 protected:
  Pipes remote_pipes(uint32_t from, uint32_t to, Duration limit = kPatient) {
    auto in = RemotePipe::listen(*context_, "tcp://127.0.0.1:0", -1, {7, from, limit});
    EXPECT_TRUE(in.ok()) << in.status();
    auto out = RemotePipe::connect(*context_, (*in)->endpoint(), {7, to, limit});
    EXPECT_TRUE(out.ok()) << out.status();
    return {*std::move(out), *std::move(in)};
  }
  // Ranks [0, on_one_node) have shared memory between them.
  std::vector<std::unique_ptr<Collective>> group(uint32_t size, uint32_t on_one_node) {
    std::vector<std::vector<PairwiseCollective::Peer>> peers(size);
    for (auto& row : peers) row.resize(size);
    for (uint32_t from = 0; from < size; ++from) {
      for (uint32_t to = 0; to < size; ++to) {
        if (from == to) continue;
        const bool is_local = from < on_one_node && to < on_one_node;
        auto [out, in] = is_local ? shm_pipes(from, to) : remote_pipes(from, to);
        peers[from][to].out = std::move(out);
        peers[to][from].in = std::move(in);
      }
    }
    std::vector<std::unique_ptr<Collective>> ranks;
    for (uint32_t rank = 0; rank < size; ++rank) {
      ranks.push_back(std::make_unique<PairwiseCollective>(rank, std::move(peers[rank])));
    }
    return ranks;
  }

  std::unique_ptr<zmq::Context> context_ = *zmq::Context::create({});
};

void run_ranks(std::vector<std::unique_ptr<Collective>>& ranks,
               const std::function<void(Collective&)>& body) {
  std::vector<std::thread> threads;
  for (auto& rank : ranks) threads.emplace_back([&] { body(*rank); });
  for (std::thread& thread : threads) thread.join();
}

TEST_F(PairwiseCollectiveTest, sums_have_the_bits_of_shared_memory) {
  constexpr std::size_t kCount = 2 * PairwiseCollective::kPartFloats + 17;
  constexpr uint32_t kSize = 3;
  auto made = ShmCollective::create_memory(kSize);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto memory = std::make_shared<const shm::Mapping>(*std::move(made));
  std::vector<std::unique_ptr<Collective>> reference;
  for (uint32_t rank = 0; rank < kSize; ++rank) {
    reference.push_back(*ShmCollective::attach(memory, rank, kSize, kPatient));
  }
  std::vector<float> expected;
  run_ranks(reference, [&](Collective& own) {
    std::vector<float> values = part_of(own.rank(), kCount);
    ASSERT_TRUE(own.all_reduce_sum(values).ok());
    if (own.rank() == 0) expected = values;
  });
  for (const uint32_t on_one_node : {0U, 2U}) {
    auto ranks = group(kSize, on_one_node);
    run_ranks(ranks, [&](Collective& own) {
      for (int round = 0; round < 3; ++round) {
        std::vector<float> values = part_of(own.rank(), kCount);
        const Status status = own.all_reduce_sum(values);
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_EQ(values, expected) << "rank " << own.rank();
      }
    });
  }
}

TEST_F(PairwiseCollectiveTest, gathers_in_rank_order_and_meets_at_barriers) {
  constexpr std::size_t kCount = PairwiseCollective::kPartFloats + 3;
  auto ranks = group(3, 2);
  run_ranks(ranks, [&](Collective& own) {
    std::vector<float> out(3 * kCount);
    ASSERT_TRUE(own.all_gather(part_of(own.rank(), kCount), out).ok());
    ASSERT_TRUE(own.barrier().ok());
    for (uint32_t rank = 0; rank < 3; ++rank) {
      const std::vector<float> part(out.begin() + static_cast<long>(rank * kCount),
                                    out.begin() + static_cast<long>((rank + 1) * kCount));
      EXPECT_EQ(part, part_of(rank, kCount));
    }
  });
}

TEST_F(PairwiseCollectiveTest, values_beyond_the_pipe_wait_for_the_reader) {
  auto [out, in] = remote_pipes(0, 1);
  const std::vector<float> values =
      part_of(0, RemotePipe::kPieceFloats * (4 * RemotePipe::kPiecesMax) + 5);
  std::thread sender([&] { EXPECT_TRUE(out->send(values).ok()); });
  std::vector<float> received(values.size());
  EXPECT_TRUE(in->receive(received).ok());
  sender.join();
  EXPECT_EQ(received, values);
}

TEST_F(PairwiseCollectiveTest, rank_that_does_not_come_is_named_and_breaks_the_group) {
  std::vector<PairwiseCollective::Peer> peers(2);
  auto [out, unread] = remote_pipes(0, 1, std::chrono::milliseconds(50));
  auto [unwritten, in] = remote_pipes(1, 0, std::chrono::milliseconds(50));
  peers[1] = {std::move(out), std::move(in)};
  PairwiseCollective own(0, std::move(peers));
  std::vector<float> values(3);
  const Status late = own.all_reduce_sum(values);
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(std::string(late.message()).find("rank 1"), std::string::npos);
  EXPECT_FALSE(own.barrier().ok());
}

TEST_F(PairwiseCollectiveTest, waits_at_both_ends_of_a_remote_pipe_show_that_the_worker_can_run) {
  SignOfLife sign{};
  const RemotePipeOptions options{7, 1, std::chrono::seconds(1), LifeSigns(sign)};
  auto in = RemotePipe::listen(*context_, "tcp://127.0.0.1:0", -1, options);
  ASSERT_TRUE(in.ok());
  std::vector<float> values(3);
  expect_shown(sign, [&] { EXPECT_FALSE((*in)->receive(values).ok()); });
  auto out = RemotePipe::connect(*context_, (*in)->endpoint(), options);
  values.resize(RemotePipe::kPieceFloats * 400);
  ASSERT_TRUE(out.ok());
  expect_shown(sign, [&] { EXPECT_FALSE((*out)->send(values).ok()); });
}

TEST_F(PairwiseCollectiveTest, values_of_another_life_of_the_group_are_ignored) {
  auto in = RemotePipe::listen(*context_, "tcp://127.0.0.1:0", -1, {7, 0, kPatient});
  ASSERT_TRUE(in.ok());
  std::vector<float> value = {5};
  {
    auto old = RemotePipe::connect(*context_, (*in)->endpoint(), {6, 1, kPatient});
    ASSERT_TRUE(old.ok() && (*old)->send(value).ok());
  }
  auto out = RemotePipe::connect(*context_, (*in)->endpoint(), {7, 1, kPatient});
  value = {8};
  ASSERT_TRUE(out.ok() && (*out)->send(value).ok());
  std::vector<float> received(1);
  ASSERT_TRUE((*in)->receive(received).ok());
  EXPECT_EQ(received[0], 8);
  // The call of the other direction is an error, not a wait.
  EXPECT_FALSE((*in)->send(value).ok());
  EXPECT_FALSE((*out)->receive(received).ok());
}

TEST_F(PairwiseCollectiveTest, counts_that_differ_are_an_error) {
  auto [out, in] = remote_pipes(0, 1);
  const std::vector<float> two(2);
  std::vector<float> three(3);
  ASSERT_TRUE(out->send(two).ok());
  const Status status = in->receive(three);
  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
}

}  // namespace
}  // namespace trireme::worker
