// SpannedLinks: the links of a place whose waves may have members on several nodes: over shared
// memory to those of this node, over ZeroMQ to the others (those with an address).
//
// transfer() begins with what goes to other nodes, does the part of this node while that is on its
// way, and ends with what is still to come from other nodes. The part of this node waits for
// places of this node alone, and while it waits the keeper of the RemoteMesh serves the others; so
// the order cannot deadlock. A wave of this node alone goes straight through shared memory.
//
// Threads: one. Lifetime: the context of `remote` outlives it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/comm/expert_links.h"
#include "worker/comm/remote_mesh.h"
#include "worker/comm/shm_mesh.h"

namespace trireme::worker {

class SpannedLinks final : public ExpertLinks {
 public:
  // Both of the same place.
  SpannedLinks(std::unique_ptr<ShmMesh> near, std::unique_ptr<RemoteMesh> far)
      : near_(std::move(near)), far_(std::move(far)) {}

  [[nodiscard]] uint32_t place() const override { return near_->place(); }
  [[nodiscard]] std::string address() const override { return far_->address(); }
  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override { return size_; }
  [[nodiscard]] Status transfer(std::span<const OutgoingPieces> outgoing,
                                IncomingPieces& incoming) override;

 private:
  // Some of a wave's members, among themselves.
  struct Part final : public IncomingPieces {
    [[nodiscard]] StatusOr<std::span<std::byte>> next_piece(uint32_t member) override {
      return whole->next_piece(members[member]);
    }
    void pick(std::span<const OutgoingPieces> all, IncomingPieces& incoming);

    std::vector<uint32_t> members;  // Their indices in the wave.
    std::vector<OutgoingPieces> outgoing;
    IncomingPieces* whole = nullptr;
  };

  [[nodiscard]] Status enter_wave(WaveId wave, std::span<const uint32_t> members,
                                  std::span<const std::string> addresses) override;
  [[nodiscard]] Status run(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming);

  std::unique_ptr<ShmMesh> near_;
  std::unique_ptr<RemoteMesh> far_;
  const std::function<bool()> is_abandoned_ = [this] { return near_->is_abandoned(); };
  // Why nothing moves any more in the wave.
  Status over_ = error(StatusCode::kAborted, "no wave was joined yet");
  uint32_t rank_ = 0;
  uint32_t size_ = 0;
  Part near_part_;
  Part far_part_;
};

}  // namespace trireme::worker
