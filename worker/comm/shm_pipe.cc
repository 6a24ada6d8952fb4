#include "worker/comm/shm_pipe.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "worker/comm/wait_in_sight.h"

namespace trireme::worker {
namespace {

constexpr uint64_t kMagic = 0x5452495049504501;  // "TRIPIPE", layout version 1.
constexpr uint32_t kData = 0;
constexpr uint32_t kSpace = 1;

// How much of `wanted` lies in the ring without wrapping, from `position` on.
std::size_t piece_at(uint64_t position, std::size_t wanted) {
  return std::min(wanted, ShmPipe::kRingFloats - position % ShmPipe::kRingFloats);
}

}  // namespace

StatusOr<shm::Mapping> ShmPipe::create_memory() {
  constexpr std::size_t kBytes =
      sizeof(Header) + 2 * sizeof(shm::Doorbell) + kRingFloats * sizeof(float);
  TRIREME_ASSIGN_OR_RETURN(shm::Mapping memory, shm::Mapping::create("trireme-pipe", kBytes));
  auto* header = new (memory.bytes().data()) Header{};
  header->magic = kMagic;
  return memory;
}

StatusOr<std::unique_ptr<ShmPipe>> ShmPipe::attach(std::shared_ptr<const shm::Mapping> memory,
                                                   uint32_t peer_stage, Duration limit,
                                                   LifeSigns life) {
  constexpr std::size_t kBytes =
      sizeof(Header) + 2 * sizeof(shm::Doorbell) + kRingFloats * sizeof(float);
  uint64_t magic = 0;
  const std::span<std::byte> bytes = memory->bytes();
  if (bytes.size() >= kBytes) std::memcpy(&magic, bytes.data(), sizeof(magic));
  if (magic != kMagic) {
    return error(StatusCode::kDataLoss, "memory of %u bytes is not a pipe", bytes.size());
  }
  return std::unique_ptr<ShmPipe>(new ShmPipe(std::move(memory), peer_stage, limit, life));
}

ShmPipe::ShmPipe(std::shared_ptr<const shm::Mapping> memory, uint32_t peer_stage, Duration limit,
                 LifeSigns life)
    : memory_(std::move(memory)),
      peer_stage_(peer_stage),
      limit_(limit),
      life_(life),
      spin_(shm::default_spin_max()) {}

ShmPipe::Header& ShmPipe::header() const {
  return *std::launder(reinterpret_cast<Header*>(memory_->bytes().data()));
}

shm::Doorbell& ShmPipe::bell(uint32_t index) const {
  std::byte* bells = memory_->bytes().data() + sizeof(Header);
  return *std::launder(reinterpret_cast<shm::Doorbell*>(bells + index * sizeof(shm::Doorbell)));
}

float* ShmPipe::ring() const {
  std::byte* ring = memory_->bytes().data() + sizeof(Header) + 2 * sizeof(shm::Doorbell);
  return std::launder(reinterpret_cast<float*>(ring));
}

template <typename IsReady>
Status ShmPipe::wait(uint32_t bell_index, const char* what, const IsReady& is_ready) {
  const auto is_over = [&] { return is_ready() || header().broken.load() != 0; };
  const Deadline deadline = is_over() ? Deadline::never() : Deadline::after(limit_);
  if (!wait_in_sight(life_, bell(bell_index), 0, spin_, deadline, is_over)) {
    header().broken.store(1);
    bell(kData).ring();
    bell(kSpace).ring();
    return error(StatusCode::kDeadlineExceeded, "pipeline stage %u %s within %.3g s", peer_stage_,
                 what, std::chrono::duration<double>(limit_).count());
  }
  if (is_ready()) return absl::OkStatus();
  return error(StatusCode::kUnavailable, "the pipe to pipeline stage %u is broken", peer_stage_);
}

Status ShmPipe::send(std::span<const float> values) {
  std::atomic<uint64_t>& sent = header().sent;
  const std::atomic<uint64_t>& received = header().received;
  uint64_t position = sent.load();
  while (!values.empty()) {
    TRIREME_RETURN_IF_ERROR(wait(kSpace, "took no hidden rows",
                                 [&] { return position - received.load() < kRingFloats; }));
    const std::size_t space = kRingFloats - (position - received.load());
    const std::size_t count = piece_at(position, std::min(space, values.size()));
    std::memcpy(ring() + position % kRingFloats, values.data(), count * sizeof(float));
    position += count;
    sent.store(position);
    bell(kData).ring();
    values = values.subspan(count);
  }
  return absl::OkStatus();
}

Status ShmPipe::receive(std::span<float> values) {
  const std::atomic<uint64_t>& sent = header().sent;
  std::atomic<uint64_t>& received = header().received;
  uint64_t position = received.load();
  while (!values.empty()) {
    TRIREME_RETURN_IF_ERROR(
        wait(kData, "gave no hidden rows", [&] { return sent.load() > position; }));
    const std::size_t there = sent.load() - position;
    const std::size_t count = piece_at(position, std::min(there, values.size()));
    std::memcpy(values.data(), ring() + position % kRingFloats, count * sizeof(float));
    position += count;
    received.store(position);
    bell(kSpace).ring();
    values = values.subspan(count);
  }
  return absl::OkStatus();
}

}  // namespace trireme::worker
