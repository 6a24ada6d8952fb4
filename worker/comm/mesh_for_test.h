// The places of a wave as threads of a test, each with an exchange of its own over one mesh.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <thread>
#include <vector>

#include "worker/comm/expert_exchange.h"
#include "worker/comm/shm_mesh.h"

namespace trireme::worker {

class MeshForTest {
 public:
  explicit MeshForTest(uint32_t place_count, uint32_t ring_bytes = 4096)
      : place_count_(place_count) {
    auto memory = ShmMesh::create_memory({.place_count = place_count, .ring_bytes = ring_bytes});
    EXPECT_TRUE(memory.ok()) << memory.status();
    memory_ = std::make_shared<const shm::Mapping>(*std::move(memory));
  }

  [[nodiscard]] std::unique_ptr<ShmMesh> links(uint32_t place) const {
    auto mesh = ShmMesh::attach(memory_, {.place = place, .limit = std::chrono::seconds(50)});
    EXPECT_TRUE(mesh.ok()) << mesh.status();
    return *std::move(mesh);
  }
  // In no wave yet.
  [[nodiscard]] std::unique_ptr<ExpertExchange> exchange(uint32_t place) const {
    return std::make_unique<ExpertExchange>(links(place), place_count_, LifeSigns());
  }
  void abandon(uint32_t first_place, uint32_t count, WaveId below) const {
    EXPECT_TRUE(ShmMesh::abandon(*memory_, first_place, count, below).ok());
  }
  [[nodiscard]] const shm::Mapping& memory() const { return *memory_; }

 private:
  const uint32_t place_count_;
  std::shared_ptr<const shm::Mapping> memory_;
};

// A thread for each of the places [0, count), all in wave 1 with each other.
inline void run_in_wave(const MeshForTest& mesh, uint32_t count,
                        const std::optional<BalancerConfig>& balancing,
                        const std::function<void(ExpertExchange&)>& body) {
  std::vector<uint32_t> members(count);
  std::iota(members.begin(), members.end(), 0U);
  std::vector<std::jthread> threads;
  for (const uint32_t place : members) {
    threads.emplace_back([&, place] {
      const auto exchange = mesh.exchange(place);
      if (balancing) exchange->balance(*balancing);
      ASSERT_TRUE(exchange->join(WaveId{1}, members).ok());
      body(*exchange);
    });
  }
}
inline void run_in_wave(const MeshForTest& mesh, uint32_t count,
                        const std::function<void(ExpertExchange&)>& body) {
  run_in_wave(mesh, count, std::nullopt, body);
}

}  // namespace trireme::worker
