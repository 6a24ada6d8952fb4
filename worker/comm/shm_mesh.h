// ShmMesh: the links between the places of one node and pipeline stage, over shared memory.
//
//   memory:  Header | Place[n] | Ring[n][n - 1] | bytes[n][n - 1][ring_bytes]
//
// A Ring is a queue of bytes from one place to another: two cursors, `sent` of the one and
// `received` of the other, each a count of bytes and the wave that it counts in. Who joins a wave
// sets its own cursors to 0 of that wave. A cursor of an earlier wave says nothing (its place has
// not come yet), one of a later wave that its place has left. Nothing is written before the place
// that reads has joined the same wave: it reads nothing older any more, so no byte is overwritten
// while it is read, and none of an earlier wave, or of a place that was killed, is taken for new.
//
// An engine abandons the waves of its own places below a number: who waits in such a wave, or is
// about to, gets kAborted at once. A place that was killed and started again joins a later wave
// over the same memory.
//
// Bounds: kPlacesMax places, all rings together kRingsBytesMax. A piece of any size flows through
// its ring in parts, in both directions at once, so no order of sizes can deadlock. Who waits spins
// shortly, then sleeps on its place's doorbell; a wait without any progress ends at `limit`.
// Threads: one per place; several places may be threads of one process. abandon() is for any.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/shm/doorbell.h"
#include "common/shm/mapping.h"
#include "worker/comm/expert_links.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

// Of a node: the places [first_place, first_place + place_count).
struct MeshShape {
  uint32_t first_place = 0;
  uint32_t place_count = 0;
  uint32_t ring_bytes = 0;  // A power of two; 0: as large as kRingsBytesMax allows.
};

class ShmMesh final : public ExpertLinks {
 public:
  static constexpr uint32_t kPlacesMax = 64;
  static constexpr uint64_t kRingsBytesMax = uint64_t{64} << 20;
  static constexpr uint32_t kRingBytesMax = 512 * 1024;
  static constexpr uint32_t kRingBytesMin = 256;

  // Made once by who starts the workers of a node, one for each stage.
  [[nodiscard]] static StatusOr<shm::Mapping> create_memory(const MeshShape& shape);
  // Waves below `below` are over for the `count` places from `first_place` on. Only ever raised.
  // kDataLoss: not a mesh; kInvalidArgument: a place is not one of its own.
  [[nodiscard]] static Status abandon(const shm::Mapping& memory, uint32_t first_place,
                                      uint32_t count, WaveId below);

  struct Options {
    uint32_t place = 0;
    Duration limit{};
    LifeSigns life;  // Shows its waits, and for which place they are.
  };
  // kDataLoss when the memory is not a mesh that this place is part of.
  [[nodiscard]] static StatusOr<std::unique_ptr<ShmMesh>> attach(
      std::shared_ptr<const shm::Mapping> memory, const Options& options);

  [[nodiscard]] uint32_t place() const override { return options_.place; }
  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override { return static_cast<uint32_t>(members_.size()); }
  [[nodiscard]] Status transfer(std::span<const OutgoingPieces> outgoing,
                                IncomingPieces& incoming) override;
  // Its engine has abandoned the wave.
  [[nodiscard]] bool is_abandoned() const;

 private:
  struct alignas(shm::kLine) Header {
    uint64_t magic;
    MeshShape shape;
  };
  struct alignas(shm::kLine) Place {
    shm::Doorbell bell;
    std::atomic<uint64_t> abandoned_below;  // A wave's tag.
  };
  // A tag is 1 + the wave; 0: none.
  struct alignas(shm::kLine) Cursor {
    std::atomic<uint64_t> tag;
    std::atomic<uint64_t> count;
  };
  struct Ring {
    Cursor sent;
    Cursor received;
  };
  static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");

  enum class Sight : uint8_t { kNotThere, kThere, kLeft };
  struct Count {
    Sight sight;
    uint64_t value;
  };
  // The two rings to and from a member, and how far a transfer has come.
  struct Member {
    uint32_t place = 0;
    Ring* out = nullptr;
    Ring* in = nullptr;
    std::byte* out_bytes = nullptr;
    const std::byte* in_bytes = nullptr;
    uint64_t sent = 0;
    uint64_t received = 0;
    std::size_t piece = 0;  // The next one to go out.
    std::span<const std::byte> to_send;
    std::span<std::byte> to_receive;
    bool has_received = false;  // All that is to come.
  };

  [[nodiscard]] static StatusOr<MeshShape> shape_of(std::span<std::byte> bytes);
  [[nodiscard]] static uint64_t bytes_of(const MeshShape& shape);
  [[nodiscard]] static Place& place_in(std::span<std::byte> bytes, uint32_t index);

  ShmMesh(std::shared_ptr<const shm::Mapping> memory, const MeshShape& shape,
          const Options& options);
  [[nodiscard]] Place& place_at(uint32_t place) const;
  [[nodiscard]] Ring& ring(uint32_t from, uint32_t to) const;
  [[nodiscard]] std::byte* ring_bytes(uint32_t from, uint32_t to) const;
  [[nodiscard]] uint32_t pair_index(uint32_t from, uint32_t to) const;
  [[nodiscard]] Count look_at(const Cursor& cursor) const;
  void enter(Cursor& cursor) const;

  [[nodiscard]] Status enter_wave(WaveId wave, std::span<const uint32_t> members,
                                  std::span<const std::string> addresses) override;
  [[nodiscard]] Status begin(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming);
  [[nodiscard]] Status take_next_piece(uint32_t index, IncomingPieces& incoming);
  static void take_next_piece(Member& member, const OutgoingPieces& outgoing);
  // Whether anything moved.
  [[nodiscard]] StatusOr<bool> move(uint32_t index, const OutgoingPieces& outgoing,
                                    IncomingPieces& incoming);
  [[nodiscard]] StatusOr<bool> send_some(Member& member, const OutgoingPieces& outgoing);
  [[nodiscard]] StatusOr<bool> receive_some(uint32_t index, IncomingPieces& incoming);
  [[nodiscard]] bool can_move(const Member& member) const;
  [[nodiscard]] Status wait();
  [[nodiscard]] Status leave(const char* who, uint32_t place);

  std::shared_ptr<const shm::Mapping> memory_;
  const MeshShape shape_;
  const Options options_;
  uint64_t tag_ = 0;  // Of the wave.
  // Why nothing moves any more in it.
  Status over_ = error(StatusCode::kAborted, "no wave was joined yet");
  uint32_t rank_ = 0;
  std::vector<Member> members_;
  shm::SpinBudget spin_;
};

}  // namespace trireme::worker
