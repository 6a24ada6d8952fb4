#include "worker/comm/shm_mesh.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "common/check.h"
#include "worker/comm/wait_in_sight.h"

namespace trireme::worker {
namespace {

constexpr uint64_t kMagic = 0x5452494D45534801;  // "TRIMESH", layout version 1.

uint64_t pairs_of(uint64_t places) { return places * (places - 1); }

// As large as all of them may be together.
uint32_t ring_bytes_for(uint32_t places) {
  const uint64_t pairs = std::max<uint64_t>(pairs_of(places), 1);
  const auto fitting = static_cast<uint32_t>(
      std::min<uint64_t>(ShmMesh::kRingsBytesMax / pairs, ShmMesh::kRingBytesMax));
  return std::bit_floor(fitting);
}

bool is_valid(const MeshShape& shape) {
  return shape.place_count > 0 && shape.place_count <= ShmMesh::kPlacesMax &&
         std::has_single_bit(shape.ring_bytes) && shape.ring_bytes >= ShmMesh::kRingBytesMin &&
         shape.ring_bytes <= ShmMesh::kRingBytesMax;
}

// A pinned place has cores of its own, so what counts is whether all can run at once.
Duration spin_max_for(uint32_t places) {
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  return cores >= static_cast<long>(places) ? std::chrono::microseconds(50) : Duration::zero();
}

constexpr uint64_t tag_of(WaveId wave) { return wave.value + 1; }

// `count` bytes from `position` of a ring on, which may wrap: copy(offset in the ring, of count).
template <typename Copy>
void in_ring(uint64_t position, std::size_t count, std::size_t ring_bytes, const Copy& copy) {
  const std::size_t begin = position & (ring_bytes - 1);
  const std::size_t first = std::min(count, ring_bytes - begin);
  copy(begin, std::size_t{0}, first);
  if (count > first) copy(std::size_t{0}, first, count - first);
}

}  // namespace

uint64_t ShmMesh::bytes_of(const MeshShape& shape) {
  return sizeof(Header) + shape.place_count * sizeof(Place) +
         pairs_of(shape.place_count) * (sizeof(Ring) + shape.ring_bytes);
}

StatusOr<shm::Mapping> ShmMesh::create_memory(const MeshShape& wanted) {
  MeshShape shape = wanted;
  if (shape.ring_bytes == 0 && shape.place_count <= kPlacesMax) {
    shape.ring_bytes = ring_bytes_for(shape.place_count);
  }
  if (!is_valid(shape)) {
    return error(StatusCode::kInvalidArgument,
                 "a mesh of %u places (at most %u) with rings of %u bytes", shape.place_count,
                 kPlacesMax, shape.ring_bytes);
  }
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping memory,
                           shm::Mapping::create("trireme-mesh", bytes_of(shape)));
  auto* header = new (memory.bytes().data()) Header{};
  header->magic = kMagic;
  header->shape = shape;
  return memory;
}

StatusOr<MeshShape> ShmMesh::shape_of(std::span<std::byte> bytes) {
  Header seen{};
  if (bytes.size() >= sizeof(Header)) std::memcpy(&seen, bytes.data(), sizeof(seen));
  if (seen.magic != kMagic || !is_valid(seen.shape) || bytes.size() < bytes_of(seen.shape)) {
    return error(StatusCode::kDataLoss, "memory of %u bytes is not a mesh", bytes.size());
  }
  return seen.shape;
}

ShmMesh::Place& ShmMesh::place_in(std::span<std::byte> bytes, uint32_t index) {
  return *std::launder(
      reinterpret_cast<Place*>(bytes.data() + sizeof(Header) + index * sizeof(Place)));
}

Status ShmMesh::abandon(const shm::Mapping& memory, uint32_t first_place, uint32_t count,
                        WaveId below) {
  TRIREME_ASSIGN_OR_RETURN(const MeshShape shape, shape_of(memory.bytes()));
  const bool are_here = first_place >= shape.first_place && count <= shape.place_count &&
                        first_place - shape.first_place <= shape.place_count - count;
  if (!are_here) {
    return error(StatusCode::kInvalidArgument, "places [%u, %u) are not in the mesh of [%u, %u)",
                 first_place, first_place + count, shape.first_place,
                 shape.first_place + shape.place_count);
  }
  for (uint32_t i = 0; i < count; ++i) {
    Place& place = place_in(memory.bytes(), first_place - shape.first_place + i);
    uint64_t before = place.abandoned_below.load();
    while (before < tag_of(below) &&
           !place.abandoned_below.compare_exchange_weak(before, tag_of(below))) {
    }
    place.bell.ring();
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<ShmMesh>> ShmMesh::attach(std::shared_ptr<const shm::Mapping> memory,
                                                   const Options& options) {
  TRIREME_ASSIGN_OR_RETURN(const MeshShape shape, shape_of(memory->bytes()));
  if (options.place < shape.first_place || options.place - shape.first_place >= shape.place_count) {
    return error(StatusCode::kDataLoss, "the mesh of places [%u, %u) is not that of place %u",
                 shape.first_place, shape.first_place + shape.place_count, options.place);
  }
  return std::unique_ptr<ShmMesh>(new ShmMesh(std::move(memory), shape, options));
}

ShmMesh::ShmMesh(std::shared_ptr<const shm::Mapping> memory, const MeshShape& shape,
                 const Options& options)
    : memory_(std::move(memory)),
      shape_(shape),
      options_(options),
      spin_(spin_max_for(shape.place_count)) {}

ShmMesh::Place& ShmMesh::place_at(uint32_t place) const {
  return place_in(memory_->bytes(), place - shape_.first_place);
}

uint32_t ShmMesh::pair_index(uint32_t from, uint32_t to) const {
  const uint32_t row = from - shape_.first_place;
  const uint32_t column = to - shape_.first_place;
  return row * (shape_.place_count - 1) + (column > row ? column - 1 : column);
}

ShmMesh::Ring& ShmMesh::ring(uint32_t from, uint32_t to) const {
  std::byte* rings = memory_->bytes().data() + sizeof(Header) + shape_.place_count * sizeof(Place);
  return *std::launder(reinterpret_cast<Ring*>(rings + pair_index(from, to) * sizeof(Ring)));
}

std::byte* ShmMesh::ring_bytes(uint32_t from, uint32_t to) const {
  std::byte* bytes = memory_->bytes().data() + sizeof(Header) + shape_.place_count * sizeof(Place) +
                     pairs_of(shape_.place_count) * sizeof(Ring);
  return bytes + uint64_t{pair_index(from, to)} * shape_.ring_bytes;
}

// Tags only grow, so a count between two equal ones is of that wave.
ShmMesh::Count ShmMesh::look_at(const Cursor& cursor) const {
  const uint64_t tag = cursor.tag.load();
  if (tag < tag_) return {Sight::kNotThere, 0};
  const uint64_t count = cursor.count.load();
  if (tag > tag_ || cursor.tag.load() != tag_) return {Sight::kLeft, 0};
  return {Sight::kThere, count};
}

void ShmMesh::enter(Cursor& cursor) const {
  cursor.tag.store(0);
  cursor.count.store(0);
  cursor.tag.store(tag_);
}

Status ShmMesh::enter_wave(WaveId wave, std::span<const uint32_t> members,
                           std::span<const std::string> addresses) {
  const uint32_t own = options_.place;
  const uint32_t end = shape_.first_place + shape_.place_count;
  if (over_.code() != StatusCode::kAborted && !over_.ok()) return over_;
  if (tag_of(wave) <= tag_) {
    return error(StatusCode::kInvalidArgument, "place %u joins wave %u after wave %u", own,
                 wave.value, tag_ - 1);
  }
  const auto is_near = [](const std::string& address) { return address.empty(); };
  for (const uint32_t place : members) {
    const bool is_here = place >= shape_.first_place && place < end;
    if (is_here && std::ranges::all_of(addresses, is_near)) continue;
    return error(StatusCode::kInvalidArgument,
                 "wave %u: place %u is on another node: here are places [%u, %u)", wave.value,
                 place, shape_.first_place, end);
  }
  const auto found = std::ranges::find(members, own);
  const bool do_ascend =
      std::ranges::adjacent_find(members, std::greater_equal<>()) == members.end();
  if (found == members.end() || !do_ascend) {
    return error(StatusCode::kInvalidArgument,
                 "wave %u: its places do not ascend, or place %u is not among them", wave.value,
                 own);
  }
  tag_ = tag_of(wave);
  over_ = absl::OkStatus();
  rank_ = static_cast<uint32_t>(found - members.begin());
  for (uint32_t place = shape_.first_place; place < end; ++place) {
    if (place == own) continue;
    enter(ring(own, place).sent);
    enter(ring(place, own).received);
    place_at(place).bell.ring();
  }
  members_.clear();
  for (const uint32_t place : members) {
    Member& member = members_.emplace_back(Member{.place = place});
    if (place == own) continue;
    member.out = &ring(own, place);
    member.in = &ring(place, own);
    member.out_bytes = ring_bytes(own, place);
    member.in_bytes = ring_bytes(place, own);
  }
  return absl::OkStatus();
}

bool ShmMesh::is_abandoned() const {
  return place_at(options_.place).abandoned_below.load() > tag_;
}

Status ShmMesh::leave(const char* who, uint32_t place) {
  return over_ = error(StatusCode::kAborted, "wave %u was left by %s %u", tag_ - 1, who, place);
}

Status ShmMesh::transfer(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming) {
  if (!over_.ok()) return over_;
  TRIREME_CHECK(outgoing.size() == members_.size(), "pieces are by member");
  if (is_abandoned()) return leave("the engine of place", options_.place);
  TRIREME_RETURN_IF_ERROR(begin(outgoing, incoming));
  while (true) {
    bool has_moved = false;
    bool is_done = true;
    for (uint32_t i = 0; i < members_.size(); ++i) {
      if (i == rank_) continue;
      TRIREME_ASSIGN_OR_RETURN(const bool moved, move(i, outgoing[i], incoming));
      has_moved = has_moved || moved;
      is_done = is_done && members_[i].to_send.empty() && members_[i].has_received;
    }
    if (is_done) return absl::OkStatus();
    if (!has_moved) TRIREME_RETURN_IF_ERROR(wait());
  }
}

Status ShmMesh::begin(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming) {
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (i == rank_) continue;
    Member& member = members_[i];
    member.piece = 0;
    take_next_piece(member, outgoing[i]);
    member.has_received = false;
    TRIREME_RETURN_IF_ERROR(take_next_piece(i, incoming));
  }
  return absl::OkStatus();
}

void ShmMesh::take_next_piece(Member& member, const OutgoingPieces& outgoing) {
  member.to_send = {};
  while (member.to_send.empty() && member.piece < outgoing.pieces.size()) {
    member.to_send = outgoing.pieces[member.piece++];
  }
}

Status ShmMesh::take_next_piece(uint32_t index, IncomingPieces& incoming) {
  Member& member = members_[index];
  TRIREME_ASSIGN_OR_RETURN(member.to_receive, incoming.next_piece(index));
  member.has_received = member.to_receive.empty();
  return absl::OkStatus();
}

StatusOr<bool> ShmMesh::move(uint32_t index, const OutgoingPieces& outgoing,
                             IncomingPieces& incoming) {
  TRIREME_ASSIGN_OR_RETURN(const bool has_sent, send_some(members_[index], outgoing));
  TRIREME_ASSIGN_OR_RETURN(const bool has_received, receive_some(index, incoming));
  return has_sent || has_received;
}

StatusOr<bool> ShmMesh::send_some(Member& member, const OutgoingPieces& outgoing) {
  if (member.to_send.empty()) return false;
  const Count taken = look_at(member.out->received);
  if (taken.sight == Sight::kLeft) return leave("place", member.place);
  if (taken.sight == Sight::kNotThere) return false;
  std::size_t space = shape_.ring_bytes - (member.sent - taken.value);
  const bool has_space = space > 0;
  while (space > 0 && !member.to_send.empty()) {
    const std::size_t count = std::min(space, member.to_send.size());
    in_ring(member.sent, count, shape_.ring_bytes,
            [&](std::size_t at, std::size_t from, std::size_t bytes) {
              std::memcpy(member.out_bytes + at, member.to_send.data() + from, bytes);
            });
    member.sent += count;
    space -= count;
    member.to_send = member.to_send.subspan(count);
    if (member.to_send.empty()) take_next_piece(member, outgoing);
  }
  if (!has_space) return false;
  member.out->sent.count.store(member.sent);
  place_at(member.place).bell.ring();
  return true;
}

StatusOr<bool> ShmMesh::receive_some(uint32_t index, IncomingPieces& incoming) {
  Member& member = members_[index];
  if (member.has_received) return false;
  const Count there = look_at(member.in->sent);
  if (there.sight == Sight::kLeft) return leave("place", member.place);
  if (there.sight == Sight::kNotThere || there.value == member.received) return false;
  const uint64_t before = member.received;
  while (member.received < there.value && !member.has_received) {
    const std::size_t count =
        std::min<std::size_t>(there.value - member.received, member.to_receive.size());
    in_ring(member.received, count, shape_.ring_bytes,
            [&](std::size_t at, std::size_t from, std::size_t bytes) {
              std::memcpy(member.to_receive.data() + from, member.in_bytes + at, bytes);
            });
    member.received += count;
    member.to_receive = member.to_receive.subspan(count);
    if (member.to_receive.empty()) TRIREME_RETURN_IF_ERROR(take_next_piece(index, incoming));
  }
  member.in->received.count.store(member.received);
  // Only a sender that found the ring full waits for space in it; it looks again after it has
  // stored `sent`, we look at that after we have stored `received`.
  if (member.in->sent.count.load() - before >= shape_.ring_bytes) {
    place_at(member.place).bell.ring();
  }
  return true;
}

bool ShmMesh::can_move(const Member& member) const {
  if (!member.to_send.empty()) {
    const Count taken = look_at(member.out->received);
    if (taken.sight == Sight::kLeft) return true;
    if (taken.sight == Sight::kThere && member.sent - taken.value < shape_.ring_bytes) return true;
  }
  if (member.has_received) return false;
  const Count there = look_at(member.in->sent);
  return there.sight == Sight::kLeft ||
         (there.sight == Sight::kThere && there.value != member.received);
}

Status ShmMesh::wait() {
  const auto is_awaited = [&](const Member& member) {
    return member.place != options_.place && !(member.to_send.empty() && member.has_received);
  };
  options_.life.await(std::ranges::find_if(members_, is_awaited)->place);
  const auto is_ready = [&] {
    return is_abandoned() || std::ranges::any_of(members_, [&](const Member& member) {
             return is_awaited(member) && can_move(member);
           });
  };
  const bool is_in_time = wait_in_sight(options_.life, place_at(options_.place).bell, 0, spin_,
                                        Deadline::after(options_.limit), is_ready);
  options_.life.await_nobody();
  if (is_abandoned()) return leave("the engine of place", options_.place);
  if (is_in_time) return absl::OkStatus();
  std::string missing;
  for (const Member& member : members_) {
    if (!is_awaited(member)) continue;
    absl::StrAppendFormat(&missing, "%s%u", missing.empty() ? "" : ", ", member.place);
  }
  return over_ =
             error(StatusCode::kDeadlineExceeded,
                   "wave %u, place %u: place %s did not come within %.3g s", tag_ - 1,
                   options_.place, missing, std::chrono::duration<double>(options_.limit).count());
}

}  // namespace trireme::worker
