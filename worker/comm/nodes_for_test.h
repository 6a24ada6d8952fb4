// The places of several nodes as threads of a test: a mesh in memory for each node, a context for
// each, and links between nodes over loopback.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "worker/comm/spanned_links.h"

namespace trireme::worker {

class NodesForTest {
 public:
  explicit NodesForTest(const std::vector<uint32_t>& places_of_nodes, uint32_t ring_bytes = 4096,
                        const zmq::ContextOptions& options = {}) {
    for (const uint32_t count : places_of_nodes) {
      auto memory = ShmMesh::create_memory(
          {.first_place = place_count(), .place_count = count, .ring_bytes = ring_bytes});
      auto context = zmq::Context::create(options);
      EXPECT_TRUE(memory.ok() && context.ok());
      const auto node = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({.context = *std::move(context),
                        .memory = std::make_shared<const shm::Mapping>(*std::move(memory))});
      node_of_.insert(node_of_.end(), count, node);
    }
    for (uint32_t place = 0; place < place_count(); ++place) {
      links_.push_back(nullptr);
      addresses_.emplace_back();
      start(place);
    }
  }

  // Anew, at another port.
  void start(uint32_t place, Duration limit = std::chrono::seconds(50), LifeSigns life = {}) {
    links_[place].reset();
    const Node& node = nodes_[node_of_[place]];
    auto near = ShmMesh::attach(node.memory, {.place = place, .limit = limit, .life = life});
    auto far = RemoteMesh::listen(*node.context, "tcp://127.0.0.1:0",
                                  {.place = place, .limit = limit, .life = life});
    ASSERT_TRUE(near.ok() && far.ok()) << near.status() << far.status();
    links_[place] = std::make_unique<SpannedLinks>(*std::move(near), *std::move(far));
    addresses_[place] = links_[place]->address();
  }
  void stop(uint32_t place) { links_[place].reset(); }

  [[nodiscard]] uint32_t place_count() const { return static_cast<uint32_t>(node_of_.size()); }
  [[nodiscard]] std::vector<uint32_t> all() const {
    std::vector<uint32_t> places(place_count());
    std::iota(places.begin(), places.end(), 0U);
    return places;
  }
  [[nodiscard]] SpannedLinks& links(uint32_t place) { return *links_[place]; }
  [[nodiscard]] std::unique_ptr<SpannedLinks> take_links(uint32_t place) {
    return std::move(links_[place]);
  }
  [[nodiscard]] const zmq::Context& context(uint32_t place) const {
    return *nodes_[node_of_[place]].context;
  }
  // What others take for the address of a place.
  [[nodiscard]] std::string& address(uint32_t place) { return addresses_[place]; }

  [[nodiscard]] Status join(uint32_t place, WaveId wave, const std::vector<uint32_t>& members) {
    return links_[place]->join(wave, members, addresses_for(place, members));
  }
  [[nodiscard]] std::vector<std::string> addresses_for(uint32_t place,
                                                       const std::vector<uint32_t>& members) const {
    std::vector<std::string> addresses;
    for (const uint32_t member : members) {
      const bool is_far = node_of_[member] != node_of_[place];
      addresses.push_back(is_far ? addresses_[member] : std::string());
    }
    return addresses;
  }
  void abandon(uint32_t place, WaveId below) const {
    EXPECT_TRUE(ShmMesh::abandon(*nodes_[node_of_[place]].memory, place, 1, below).ok());
  }
  void run(const std::vector<uint32_t>& places,
           const std::function<void(uint32_t place, SpannedLinks& links)>& body) {
    std::vector<std::jthread> threads;
    for (const uint32_t place : places) {
      threads.emplace_back([&, place] { body(place, *links_[place]); });
    }
  }

 private:
  struct Node {
    std::unique_ptr<zmq::Context> context;
    std::shared_ptr<const shm::Mapping> memory;
  };

  std::vector<Node> nodes_;
  std::vector<uint32_t> node_of_;
  std::vector<std::unique_ptr<SpannedLinks>> links_;
  std::vector<std::string> addresses_;
};

}  // namespace trireme::worker
