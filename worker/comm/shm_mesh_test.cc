// Places as threads over one mapping (which the thread sanitizer sees through), and one as a
// process that is killed. What goes from place to place is a function of wave, ends and count, so
// that a byte of another wave, or out of order, shows.
#include "worker/comm/shm_mesh.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "common/random.h"
#include "worker/comm/links_for_test.h"
#include "worker/comm/waits_for_test.h"

namespace trireme::worker {
namespace {

constexpr Duration kPatient = std::chrono::seconds(30);
constexpr Duration kBrief = std::chrono::milliseconds(20);

using Memory = std::shared_ptr<const shm::Mapping>;

Memory memory_of(const MeshShape& shape) {
  StatusOr<shm::Mapping> memory = ShmMesh::create_memory(shape);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return std::make_shared<const shm::Mapping>(*std::move(memory));
}

std::unique_ptr<ShmMesh> attach(const Memory& memory, uint32_t place, Duration limit = kPatient,
                                LifeSigns life = {}) {
  auto mesh = ShmMesh::attach(memory, {.place = place, .limit = limit, .life = life});
  EXPECT_TRUE(mesh.ok()) << mesh.status();
  return *std::move(mesh);
}

void run_places(const Memory& memory, std::span<const uint32_t> members,
                const std::function<void(ShmMesh&)>& body) {
  std::vector<std::jthread> threads;
  for (const uint32_t place : members) {
    threads.emplace_back([&memory, &body, place] { body(*attach(memory, place)); });
  }
}

TEST(ShmMesh, all_to_all_comes_as_it_was_sent_whatever_the_sizes) {
  for (const uint32_t ring_bytes : {256U, 4096U, 0U}) {
    for (const uint32_t count : {2U, 3U, 4U}) {
      const Memory memory =
          memory_of({.first_place = 6, .place_count = count, .ring_bytes = ring_bytes});
      const auto members = places(6, count);
      run_places(memory, members, [&](ShmMesh& mesh) {
        ASSERT_TRUE(mesh.join(WaveId{0}, members).ok());
        EXPECT_EQ(mesh.size(), count);
        for (uint64_t i = 0; i < 60; ++i) {
          const Status status = exchange(mesh, 0, members, i, i % 7 == 0 ? 2000 : 90);
          ASSERT_TRUE(status.ok()) << status;
        }
      });
    }
  }
}

TEST(ShmMesh, some_of_a_mesh_may_be_a_wave) {
  const Memory memory = memory_of({.place_count = 5, .ring_bytes = 256});
  const std::vector<uint32_t> members = {0, 2, 3};
  run_places(memory, members, [&](ShmMesh& mesh) {
    ASSERT_TRUE(mesh.join(WaveId{4}, members).ok());
    EXPECT_EQ(members[mesh.rank()], mesh.place());
    for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(exchange(mesh, 4, members, i, 500).ok());
  });
}

TEST(ShmMesh, what_an_earlier_wave_left_is_never_read) {
  const Memory memory = memory_of({.place_count = 2, .ring_bytes = 256});
  const auto members = places(0, 2);
  const auto a = attach(memory, 0);
  const auto b = attach(memory, 1, kBrief);
  ASSERT_TRUE(a->join(WaveId{1}, members).ok());
  ASSERT_TRUE(b->join(WaveId{1}, members).ok());
  ASSERT_TRUE(send_to_other(*a, Bytes(200, std::byte{1})).ok()) << "the ring holds it";
  ASSERT_TRUE(b->join(WaveId{2}, members).ok());
  ASSERT_TRUE(a->join(WaveId{2}, members).ok());
  ASSERT_TRUE(send_to_other(*a, Bytes(100, std::byte{2})).ok());
  const auto got = receive_from_other(*b, 100);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, Bytes(100, std::byte{2}));
  EXPECT_EQ(receive_from_other(*b, 1).status().code(), StatusCode::kDeadlineExceeded)
      << "nothing else is there";
}

TEST(ShmMesh, who_is_in_an_earlier_wave_is_waited_for_and_its_ring_left_alone) {
  const Memory memory = memory_of({.place_count = 2, .ring_bytes = 256});
  const auto members = places(0, 2);
  const auto a = attach(memory, 0);
  const auto b = attach(memory, 1, kBrief);
  ASSERT_TRUE(a->join(WaveId{1}, members).ok());
  ASSERT_TRUE(b->join(WaveId{1}, members).ok());
  ASSERT_TRUE(b->join(WaveId{2}, members).ok());
  const Status late = send_to_other(*b, Bytes(1));
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(std::string(late.message()).find("wave 2, place 1: place 0 did not come"),
            std::string::npos)
      << late;
  EXPECT_EQ(b->join(WaveId{3}, members), late) << "an error of the links is for good";
}

TEST(ShmMesh, a_member_that_has_left_for_a_later_wave_ends_the_wait) {
  const Memory memory = memory_of({.place_count = 2, .ring_bytes = 256});
  const auto members = places(0, 2);
  const auto a = attach(memory, 0);
  const auto b = attach(memory, 1);
  ASSERT_TRUE(a->join(WaveId{1}, members).ok());
  ASSERT_TRUE(b->join(WaveId{1}, members).ok());
  ASSERT_TRUE(send_to_other(*a, Bytes(10)).ok());
  ASSERT_TRUE(a->join(WaveId{2}, members).ok());
  EXPECT_EQ(receive_from_other(*b, 10).status().code(), StatusCode::kAborted);
  EXPECT_EQ(send_to_other(*b, Bytes(10)).code(), StatusCode::kAborted);
  ASSERT_TRUE(b->join(WaveId{2}, members).ok());
  ASSERT_TRUE(send_to_other(*b, Bytes(10)).ok());
}

TEST(ShmMesh, its_engine_wakes_a_place_that_sleeps_and_no_other) {
  const Memory memory = memory_of({.place_count = 3, .ring_bytes = 256});
  const auto members = places(0, 3);
  SignOfLife sign{};
  Status end;
  std::jthread sleeper([&] {
    const auto mesh = attach(memory, 1, kPatient, LifeSigns(sign));
    ASSERT_TRUE(mesh->join(WaveId{7}, members).ok());
    end = exchange(*mesh, 7, members, 0, 100);
  });
  while (look_at(sign).awaited != 0U) std::this_thread::yield();
  ASSERT_TRUE(ShmMesh::abandon(*memory, 0, 1, WaveId{8}).ok());
  ASSERT_TRUE(ShmMesh::abandon(*memory, 1, 1, WaveId{7}).ok());
  ASSERT_TRUE(ShmMesh::abandon(*memory, 1, 2, WaveId{8}).ok());
  sleeper.join();
  EXPECT_EQ(end.code(), StatusCode::kAborted) << end;
  EXPECT_NE(std::string(end.message()).find("wave 7 was left by the engine of place 1"),
            std::string::npos)
      << end;
  EXPECT_EQ(look_at(sign).awaited, std::nullopt);
  const auto mesh = attach(memory, 2);
  ASSERT_TRUE(mesh->join(WaveId{5}, members).ok());
  EXPECT_EQ(exchange(*mesh, 5, members, 0, 100).code(), StatusCode::kAborted) << "before it waits";
}

TEST(ShmMesh, a_wait_shows_that_its_worker_can_run) {
  SignOfLife sign{};
  const Memory memory = memory_of({.place_count = 2, .ring_bytes = 256});
  const auto mesh = attach(memory, 0, std::chrono::seconds(1), LifeSigns(sign));
  ASSERT_TRUE(mesh->join(WaveId{1}, places(0, 2)).ok());
  expect_shown(sign, [&] { EXPECT_FALSE(receive_from_other(*mesh, 10).ok()); });
}

TEST(ShmMesh, a_place_that_was_killed_comes_back_in_a_later_wave) {
  const Memory memory = memory_of({.place_count = 2, .ring_bytes = 256});
  const auto members = places(0, 2);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto mesh = attach(memory, 1);
    if (!mesh->join(WaveId{1}, members).ok()) ::_exit(1);
    for (uint64_t i = 0;; ++i) {
      if (!exchange(*mesh, 1, members, i, 2000).ok()) ::_exit(2);
    }
  }
  const auto mesh = attach(memory, 0);
  ASSERT_TRUE(mesh->join(WaveId{1}, members).ok());
  for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(exchange(*mesh, 1, members, i, 2000).ok());
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(ShmMesh::abandon(*memory, 0, 2, WaveId{2}).ok());
  EXPECT_EQ(exchange(*mesh, 1, members, 50, 2000).code(), StatusCode::kAborted);
  std::jthread back([&] {
    const auto other = attach(memory, 1);
    ASSERT_TRUE(other->join(WaveId{2}, members).ok());
    for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(exchange(*other, 2, members, i, 2000).ok());
  });
  ASSERT_TRUE(mesh->join(WaveId{2}, members).ok());
  for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(exchange(*mesh, 2, members, i, 2000).ok());
}

// Waves end wherever they are, and some places are in the next one before others have noticed.
TEST(ShmMesh, waves_that_are_left_at_any_moment_mix_no_bytes) {
  constexpr uint64_t kWaves = 60;
  const Memory memory = memory_of({.place_count = 3, .ring_bytes = 256});
  const auto members = places(0, 3);
  std::atomic<uint64_t> exchanges{0};
  std::jthread engine([&] {
    Random random(5);
    for (uint64_t wave = 1; wave <= kWaves; ++wave) {
      const uint64_t seen = exchanges.load();
      const uint64_t more = 1 + random.below(20);
      while (exchanges.load() < seen + more) std::this_thread::yield();
      for (const uint32_t place : members) {
        ASSERT_TRUE(ShmMesh::abandon(*memory, place, 1, WaveId{wave + 1}).ok());
      }
    }
  });
  run_places(memory, members, [&](ShmMesh& mesh) {
    for (uint64_t wave = 1; wave <= kWaves; ++wave) {
      ASSERT_TRUE(mesh.join(WaveId{wave}, members).ok());
      Status status;
      for (uint64_t i = 0; status.ok(); ++i) {
        status = exchange(mesh, wave, members, i, i % 5 == 0 ? 1500 : 60);
        ++exchanges;
      }
      ASSERT_EQ(status.code(), StatusCode::kAborted) << status;
    }
  });
}

TEST(ShmMesh, what_does_not_fit_is_refused) {
  EXPECT_FALSE(ShmMesh::create_memory({.place_count = 0}).ok());
  EXPECT_FALSE(ShmMesh::create_memory({.place_count = ShmMesh::kPlacesMax + 1}).ok());
  EXPECT_FALSE(ShmMesh::create_memory({.place_count = 2, .ring_bytes = 1000}).ok());
  const Memory memory = memory_of({.first_place = 4, .place_count = 2, .ring_bytes = 256});
  EXPECT_EQ(ShmMesh::attach(memory, {.place = 3}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(ShmMesh::attach(memory, {.place = 6}).status().code(), StatusCode::kDataLoss);
  const auto other = shm::Mapping::create("not-a-mesh", 4096);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(ShmMesh::abandon(*other, 0, 1, WaveId{1}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(ShmMesh::abandon(*memory, 3, 1, WaveId{1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ShmMesh::abandon(*memory, 5, 2, WaveId{1}).code(), StatusCode::kInvalidArgument);
  const auto mesh = attach(memory, 4);
  EXPECT_EQ(send_to_other(*mesh, {}).code(), StatusCode::kAborted);
}

TEST(ShmMesh, waves_only_grow_and_have_this_place_and_no_far_one) {
  const Memory memory = memory_of({.place_count = 3, .ring_bytes = 256});
  const auto mesh = attach(memory, 1);
  const auto code = [&](uint64_t wave, const std::vector<uint32_t>& members) {
    return mesh->join(WaveId{wave}, members).code();
  };
  EXPECT_EQ(code(3, {0, 2}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(3, {1, 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(3, {1, 1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(3, {1, 3}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(3, {0, 1}), StatusCode::kOk);
  EXPECT_EQ(code(3, {0, 1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, {0, 1}), StatusCode::kInvalidArgument);
}

TEST(ShmMesh, all_rings_together_stay_within_their_bound) {
  for (const uint32_t count : {2U, 8U, ShmMesh::kPlacesMax}) {
    const Memory memory = memory_of({.place_count = count});
    EXPECT_LT(memory->bytes().size(), ShmMesh::kRingsBytesMax + 4 * 1024 * 1024) << count;
  }
}

}  // namespace
}  // namespace trireme::worker
