#include "worker/comm/shm_collective.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "worker/comm/wait_in_sight.h"

namespace trireme::worker {
namespace {

constexpr uint64_t kMagic = 0x5452495245434F01;  // "TRIRECO", layout version 1.

// A pinned rank has a core of its own, so what counts is whether all ranks can run at once.
Duration spin_max_for(uint32_t size) {
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  return cores >= static_cast<long>(size) ? std::chrono::microseconds(50) : Duration::zero();
}

}  // namespace

std::size_t ShmCollective::bytes_of(uint32_t size) {
  return sizeof(Header) + sizeof(shm::Doorbell) + size * sizeof(Cell) +
         2 * size * kPartFloats * sizeof(float);
}

StatusOr<shm::Mapping> ShmCollective::create_memory(uint32_t size) {
  if (size == 0 || size > kRanksMax) {
    return error(StatusCode::kInvalidArgument, "a group of %u ranks is not in [1, %u]", size,
                 kRanksMax);
  }
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping memory,
                           shm::Mapping::create("trireme-collective", bytes_of(size)));
  auto* header = new (memory.bytes().data()) Header{};
  header->magic = kMagic;
  header->size = size;
  return memory;
}

StatusOr<std::unique_ptr<ShmCollective>> ShmCollective::attach(
    std::shared_ptr<const shm::Mapping> memory, uint32_t rank, uint32_t size, Duration limit,
    LifeSigns life) {
  const std::span<std::byte> bytes = memory->bytes();
  Header seen{};
  if (bytes.size() >= sizeof(Header)) {
    std::memcpy(&seen.magic, bytes.data() + offsetof(Header, magic), sizeof(seen.magic));
    std::memcpy(&seen.size, bytes.data() + offsetof(Header, size), sizeof(seen.size));
  }
  const bool is_group = seen.magic == kMagic && seen.size == size && size <= kRanksMax;
  if (!is_group || rank >= size || bytes.size() < bytes_of(size)) {
    return error(StatusCode::kDataLoss, "memory of %u bytes is not rank %u's group of %u",
                 bytes.size(), rank, size);
  }
  return std::unique_ptr<ShmCollective>(
      new ShmCollective(std::move(memory), rank, size, limit, life));
}

ShmCollective::ShmCollective(std::shared_ptr<const shm::Mapping> memory, uint32_t rank,
                             uint32_t size, Duration limit, LifeSigns life)
    : memory_(std::move(memory)),
      rank_(rank),
      size_(size),
      limit_(limit),
      life_(life),
      spin_(spin_max_for(size)) {
  operation_ = cell(rank).arrived.load();
}

ShmCollective::Header& ShmCollective::header() const {
  return *std::launder(reinterpret_cast<Header*>(memory_->bytes().data()));
}

shm::Doorbell& ShmCollective::bell() const {
  return *std::launder(reinterpret_cast<shm::Doorbell*>(memory_->bytes().data() + sizeof(Header)));
}

ShmCollective::Cell& ShmCollective::cell(uint32_t rank) const {
  std::byte* cells = memory_->bytes().data() + sizeof(Header) + sizeof(shm::Doorbell);
  return *std::launder(reinterpret_cast<Cell*>(cells + rank * sizeof(Cell)));
}

float* ShmCollective::part(uint32_t rank) const {
  std::byte* parts =
      memory_->bytes().data() + sizeof(Header) + sizeof(shm::Doorbell) + size_ * sizeof(Cell);
  const std::size_t index = (operation_ % 2) * size_ + rank;
  return std::launder(reinterpret_cast<float*>(parts + index * kPartFloats * sizeof(float)));
}

bool ShmCollective::has_arrived(uint32_t rank) const {
  return cell(rank).arrived.load() >= operation_;
}

Status ShmCollective::exchange(std::span<const float> mine) {
  if (header().broken.load() != 0) return broken_error();
  ++operation_;
  if (!mine.empty()) std::memcpy(part(rank_), mine.data(), mine.size_bytes());
  Cell& own = cell(rank_);
  own.counts[operation_ % 2] = mine.size();
  own.arrived.store(operation_);
  bell().ring();
  // The ranks behind us in the loop have mostly come when those before them have.
  uint32_t next = 0;
  const auto is_ready = [&] {
    while (next < size_ && has_arrived(next)) ++next;
    return next == size_ || header().broken.load() != 0;
  };
  const Deadline deadline = is_ready() ? Deadline::never() : Deadline::after(limit_);
  if (!wait_in_sight(life_, bell(), rank_, spin_, deadline, is_ready)) return give_up();
  if (next < size_) return broken_error();
  for (uint32_t rank = 0; rank < size_; ++rank) {
    const uint64_t count = cell(rank).counts[operation_ % 2];
    if (count == mine.size()) continue;
    header().broken.store(1 + rank);
    bell().ring();
    return error(StatusCode::kInternal,
                 "collective %u: rank %u brings %u values, rank %u brings %u", operation_, rank_,
                 mine.size(), rank, count);
  }
  return absl::OkStatus();
}

Status ShmCollective::give_up() {
  std::string missing;
  uint32_t first = size_;
  for (uint32_t rank = 0; rank < size_; ++rank) {
    if (has_arrived(rank)) continue;
    absl::StrAppendFormat(&missing, "%s%u", missing.empty() ? "" : ", ", rank);
    first = std::min(first, rank);
  }
  header().broken.store(1 + (first < size_ ? first : rank_));
  bell().ring();
  const double seconds = std::chrono::duration<double>(limit_).count();
  return error(StatusCode::kDeadlineExceeded,
               "collective %u of rank %u: tensor-parallel rank %s did not come within %.3g s",
               operation_, rank_, missing, seconds);
}

Status ShmCollective::broken_error() const {
  return error(StatusCode::kUnavailable, "the tensor-parallel group is broken: rank %u was missed",
               header().broken.load() - 1);
}

Status ShmCollective::all_reduce_sum(std::span<float> values) {
  for (std::size_t begin = 0; begin < values.size(); begin += kPartFloats) {
    const std::span piece = values.subspan(begin, std::min(kPartFloats, values.size() - begin));
    TRIREME_RETURN_IF_ERROR(exchange(piece));
    const float* __restrict first = part(0);
    float* __restrict out = piece.data();
    std::copy_n(first, piece.size(), out);
    for (uint32_t rank = 1; rank < size_; ++rank) {
      const float* __restrict theirs = part(rank);
      for (std::size_t i = 0; i < piece.size(); ++i) out[i] += theirs[i];
    }
  }
  return absl::OkStatus();
}

Status ShmCollective::all_gather(std::span<const float> mine, std::span<float> out) {
  for (std::size_t begin = 0; begin < mine.size(); begin += kPartFloats) {
    const std::span piece = mine.subspan(begin, std::min(kPartFloats, mine.size() - begin));
    TRIREME_RETURN_IF_ERROR(exchange(piece));
    for (uint32_t rank = 0; rank < size_; ++rank) {
      std::copy_n(part(rank), piece.size(), out.data() + rank * mine.size() + begin);
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme::worker
