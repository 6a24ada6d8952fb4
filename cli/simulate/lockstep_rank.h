// LockstepRank: one rank of a simulated lockstep cluster: the product's state machines, and what
// stands for its scheduler and its workers. LockstepNode: the ranks' shared memory. PeerMail: what
// stands for engine_core/lockstep/peer_links.h.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine_core/lockstep/lockstep_group.h"
#include "engine_core/lockstep/tree_exchange.h"
#include "proto/member/member_key.h"
#include "proto/member/member_state.h"

namespace trireme::sim {

// Outlives the processes of its ranks, as the node agent's does.
class LockstepNode {
 public:
  LockstepNode(uint32_t first_rank, uint32_t rank_count)
      : parts_(*engine::StepBoard::create(first_rank, rank_count)) {}

  [[nodiscard]] std::unique_ptr<engine::StepBoard> attach(uint32_t rank) const {
    std::vector<UniqueFd> bells;
    for (const UniqueFd& bell : parts_.bells) bells.emplace_back(::dup(bell.get()));
    auto memory = shm::Mapping::attach(UniqueFd(::dup(parts_.memory.fd())));
    return *engine::StepBoard::attach(*std::move(memory), std::move(bells), rank);
  }

 private:
  engine::StepBoard::Parts parts_;
};

// A node below is answered over the connection that it came by; processes are numbers here.
class PeerMail final : public engine::StepCarrier {
 public:
  using Send = std::function<void(uint32_t process, const wire::StepAgreement&)>;
  explicit PeerMail(Send send) : send_(std::move(send)) {}

  void begin_wave(WaveId, uint32_t own_node, std::vector<std::string> addresses) override {
    if (own_node == 0) return;
    const std::string& above = addresses[engine::StepTree::parent_of(own_node)];
    above_ = static_cast<uint32_t>(std::strtoul(above.c_str(), nullptr, 10));
  }
  void send(uint32_t node, const wire::StepAgreement& message) override {
    const auto below = below_.find(node);
    if (!message.is_down) return send_(above_, message);
    if (below != below_.end()) send_(below->second, message);
  }
  void note_heard(uint32_t process, const wire::StepAgreement& message) {
    if (!message.is_down) below_[message.from_node] = process;
  }

 private:
  Send send_;
  uint32_t above_ = 0;
  std::map<uint32_t, uint32_t> below_;  // Who spoke last as that node.
};

struct LockstepRank {
  LockstepRank(wire::Hello hello, Duration lease, Instant now, uint32_t node_number,
               const LockstepNode& memory, PeerMail::Send send)
      : key{hello.role, hello.index, hello.incarnation},
        node(node_number),
        member(std::move(hello), lease, now),
        mail(std::move(send)),
        group(EngineId{key.index},
              std::make_unique<engine::TreeExchange>(key.index, memory.attach(key.index), mail)) {}

  // It has come to a step's collective.
  struct Arrival {
    uint32_t rank = 0;
    WaveId wave;
    uint64_t step = 0;
    friend auto operator<=>(const Arrival&, const Arrival&) = default;
  };
  // What it has posted last.
  struct Posted {
    WaveId wave;
    uint64_t step = 0;
    bool has_work = false;
  };

  wire::MemberKey key;
  uint32_t node;
  member::MemberState member;
  PeerMail mail;
  engine::LockstepGroup group;
  std::set<Arrival> arrivals;
  std::deque<Arrival> own_arrivals;  // The last two: said again and again.

  int work = 0;  // Steps until its requests end.
  Posted posted;
  bool is_dummy = false;
  bool is_computing = false;  // All have come to the collective; the rest of the step takes time.
  uint64_t computation = 0;   // The one that is waited for.
  uint64_t waits_since = 0;   // For the others to come to the collective.

  bool is_alive = true;
  bool is_ready = false;
  bool is_draining = false;
  bool is_frozen = false;
  int64_t clock_skew = 0;  // Milliseconds.
  std::vector<member::Incoming> inbox;
  std::vector<std::function<void()>> heard;

  [[nodiscard]] uint32_t rank() const { return key.index; }
  [[nodiscard]] const engine::Lockstep& lockstep() const { return group.lockstep(); }
  [[nodiscard]] std::string name() const {
    return absl::StrFormat("rank %u#%u", rank(), key.incarnation.value);
  }
  // Who has not come to the step that runs.
  [[nodiscard]] std::vector<uint32_t> awaited() const {
    std::vector<uint32_t> others;
    for (const uint32_t other : lockstep().ranks()) {
      const bool has_come = arrivals.contains({other, lockstep().wave(), lockstep().step()});
      if (!is_computing && !has_come) others.push_back(other);
    }
    return others;
  }
  void tell_standing(bool is_late) {
    if (lockstep().phase() == engine::Lockstep::Phase::kRunning) {
      group.note_awaited(is_late ? awaited() : std::vector<uint32_t>());
    }
    const auto standing = group.take_standing(can_compute(), is_draining && work == 0);
    if (standing) member.set_wave(standing->event, standing->wave, standing->awaits);
  }
  // Why it is not at rest; empty: it is.
  [[nodiscard]] std::string unrest() const {
    if (!member.is_joined()) return name() + " is not joined";
    if (lockstep().phase() != engine::Lockstep::Phase::kAsleep) {
      return absl::StrFormat("%s waits in wave %u, step %u", name(), wave_number(lockstep().wave()),
                             lockstep().step());
    }
    if (work > 0) return name() + " has work left";
    if (is_draining) return name() + " is to go";
    if (lockstep().pause().mode != engine::PauseMode::kNone) return name() + " is still paused";
    if (lockstep().has_untold_wish()) return name() + " has a wish to tell";
    return {};
  }
  [[nodiscard]] bool can_compute() const {
    return work > 0 && (is_draining || lockstep().pause().mode != engine::PauseMode::kKeep);
  }
};

}  // namespace trireme::sim
