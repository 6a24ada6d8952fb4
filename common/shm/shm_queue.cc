#include "common/shm/shm_queue.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace trireme::shm {
namespace {

constexpr uint64_t kQueueMagic = 0x5452495155455502;  // "TRIQUEU", layout version 2.
constexpr std::size_t kRingsOffset = sizeof(QueueHeader) + 2 * sizeof(Doorbell);

std::size_t total_bytes(const QueueShape& shape) {
  return kRingsOffset + shape.ring_count * (shape.ring().total_bytes() + kLine);
}

bool has_died(int pidfd) {
  if (pidfd < 0) return false;
  pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) > 0;
}

bool is_watching(const std::vector<int>& pidfds) {
  return std::any_of(pidfds.begin(), pidfds.end(), [](int pidfd) { return pidfd >= 0; });
}

// A wait that also looks after its peers wakes up for that.
Deadline slice_of(Deadline deadline, bool watches) {
  return watches ? Deadline(std::min(deadline.at(), now() + kPeerCheckInterval)) : deadline;
}

Status closed_error() { return Status(StatusCode::kUnavailable, "the shared queue is closed"); }

Status late_error(const char* what) { return Status(StatusCode::kDeadlineExceeded, what); }

Status broken_error(uint32_t ring) {
  return error(StatusCode::kDataLoss, "ring %d of the shared queue holds what no sender wrote",
               ring);
}

}  // namespace

StatusOr<QueueMemory> QueueMemory::create(const std::string& name, QueueShape shape) {
  if (!shape.is_valid()) {
    return error(StatusCode::kInvalidArgument,
                 "shared queue %s: %d rings of %d slots of %d bytes for %d readers; slots are a "
                 "power of two up to %d of up to %d bytes, rings and readers at most %d",
                 name, shape.ring_count, shape.slot_count, shape.slot_bytes, shape.reader_count,
                 RingShape::kSlotCountMax, RingShape::kSlotBytesMax, kWaitersMax);
  }
  TRIREME_ASSIGN_OR_RETURN(Mapping mapping, Mapping::create(name, total_bytes(shape)));
  new (mapping.bytes().data()) QueueHeader{.magic = kQueueMagic, .shape = shape, .is_closed = 0};
  QueueMemory memory(std::move(mapping), shape);
  for (uint32_t ring = 0; ring < shape.ring_count; ++ring) {
    RingMemory::format(memory.ring_bytes(ring), shape.ring());
  }
  return memory;
}

StatusOr<QueueMemory> QueueMemory::attach(UniqueFd fd) {
  TRIREME_ASSIGN_OR_RETURN(Mapping mapping, Mapping::attach(std::move(fd)));
  constexpr auto kBad = StatusCode::kFailedPrecondition;
  const std::span<std::byte> bytes = mapping.bytes();
  if (bytes.size() < kRingsOffset) return error(kBad, "%d bytes are no shared queue", bytes.size());
  uint64_t magic = 0;
  QueueShape shape;
  std::memcpy(&magic, bytes.data() + offsetof(QueueHeader, magic), sizeof(magic));
  std::memcpy(&shape, bytes.data() + offsetof(QueueHeader, shape), sizeof(shape));
  if (magic != kQueueMagic) {
    return error(kBad, "not a shared queue of this version: it begins with %016x, ours with %016x",
                 magic, kQueueMagic);
  }
  if (!shape.is_valid() || bytes.size() < total_bytes(shape)) {
    return error(kBad, "a shared queue of %d bytes cannot hold the rings it claims", bytes.size());
  }
  QueueMemory memory(std::move(mapping), shape);
  for (uint32_t ring = 0; ring < shape.ring_count; ++ring) {
    const auto found = RingMemory::attach(memory.ring_bytes(ring));
    if (!found || found->shape() != shape.ring()) {
      return error(kBad, "ring %d of the shared queue is damaged", ring);
    }
  }
  return memory;
}

QueueHeader& QueueMemory::header() const {
  return *std::launder(reinterpret_cast<QueueHeader*>(mapping_.bytes().data()));
}

Doorbell& QueueMemory::data() const {
  return *std::launder(reinterpret_cast<Doorbell*>(mapping_.bytes().data() + sizeof(QueueHeader)));
}

Doorbell& QueueMemory::space() const { return *(&data() + 1); }

std::span<std::byte> QueueMemory::ring_bytes(uint32_t ring) const {
  const std::size_t each = shape_.ring().total_bytes();
  return mapping_.bytes().subspan(kRingsOffset + ring * each, each);
}

RingMemory QueueMemory::ring(uint32_t index) const {
  TRIREME_CHECK(index < shape_.ring_count, "no such ring");
  const auto found = RingMemory::attach(ring_bytes(index));
  TRIREME_CHECK(found.has_value(), "create() or attach() has seen it");
  return *found;
}

std::span<std::byte> QueueMemory::note(uint32_t ring) const {
  TRIREME_CHECK(ring < shape_.ring_count, "no such ring");
  const std::size_t rings = shape_.ring_count * shape_.ring().total_bytes();
  return mapping_.bytes().subspan(kRingsOffset + rings + ring * kLine, kLine);
}

QueueStats QueueMemory::stats() const {
  QueueStats stats;
  for (uint32_t index = 0; index < shape_.ring_count; ++index) {
    const RingMemory memory = ring(index);
    uint64_t slowest = UINT64_MAX;
    // The heads first: they follow the tail, so the difference is not negative.
    for (uint32_t reader = 0; reader < shape_.reader_count; ++reader) {
      const RingCursor& head = memory.head(reader);
      slowest = std::min(slowest, head.position.load(std::memory_order_acquire));
      stats.reader_parks += head.parks.get();
    }
    const RingCursor& tail = memory.tail();
    const uint64_t published = tail.position.load(std::memory_order_acquire);
    stats.chunks_waiting = std::max(stats.chunks_waiting, published - slowest);
    stats.records += tail.records.get();
    stats.bytes += tail.bytes.get();
    stats.oversize_records += tail.oversize_records.get();
    stats.writer_waits += tail.waits.get();
    stats.writer_parks += tail.parks.get();
  }
  return stats;
}

void QueueMemory::close() const noexcept {
  header().is_closed.store(1);
  data().wake();
  space().wake();
}

RecordReader::RecordReader(RingMemory memory, uint32_t reader, Doorbell& space,
                           uint64_t record_bytes_max)
    : ring_(memory, reader), space_(&space), record_bytes_max_(record_bytes_max) {
  TRIREME_CHECK(reader < memory.shape().reader_count, "no such reader");
}

void RecordReader::release_slot() {
  ring_.release();
  space_->ring();
}

// False when the chunk does not continue what came before.
bool RecordReader::join(const Chunk& chunk) {
  if ((chunk.marks & kFirstChunk) != 0) {
    joined_.clear();
    joined_bytes_expected_ = chunk.record_bytes;
  }
  if (joined_bytes_expected_ > record_bytes_max_ ||
      joined_.size() + chunk.bytes.size() > joined_bytes_expected_) {
    return false;
  }
  joined_.reserve(joined_bytes_expected_);
  joined_.insert(joined_.end(), chunk.bytes.begin(), chunk.bytes.end());
  return (chunk.marks & kLastChunk) == 0 || joined_.size() == joined_bytes_expected_;
}

RecordReader::Look RecordReader::look(std::span<const std::byte>& record) {
  while (const auto chunk = ring_.read()) {
    if (!chunk->is_sound) return Look::kBroken;
    if (chunk->marks == kWholeRecord) {
      holds_slot_ = true;
      record = chunk->bytes;
      return Look::kRecord;
    }
    if (!join(*chunk)) return Look::kBroken;
    const bool is_last = (chunk->marks & kLastChunk) != 0;
    release_slot();
    if (is_last) {
      holds_joined_ = true;
      record = joined_;
      return Look::kRecord;
    }
  }
  return Look::kNothing;
}

void RecordReader::release() {
  TRIREME_CHECK(holds_record(), "release() follows a receive()");
  if (holds_slot_) release_slot();
  if (holds_joined_) joined_bytes_expected_ = 0;
  holds_slot_ = holds_joined_ = false;
}

ShmSender::ShmSender(const QueueMemory& memory, uint32_t ring, Duration spin_max)
    : memory_(memory),
      ring_(ring),
      writer_(memory.ring(ring)),
      spin_(spin_max, &memory.ring(ring).tail().parks),
      reader_pidfds_(memory.shape().reader_count, -1) {}

void ShmSender::watch_reader(uint32_t reader, int pidfd) { reader_pidfds_.at(reader) = pidfd; }

Status ShmSender::send(std::span<const std::byte> record, Deadline deadline) {
  const QueueShape& shape = memory_.shape();
  if (record.size() > shape.record_bytes_max) {
    return error(StatusCode::kInvalidArgument, "a record of %d bytes; the queue takes up to %d",
                 record.size(), shape.record_bytes_max);
  }
  std::size_t sent = 0;
  do {
    TRIREME_RETURN_IF_ERROR(wait_for_slot(deadline));
    const std::size_t bytes = std::min<std::size_t>(shape.slot_bytes, record.size() - sent);
    if (bytes > 0) std::memcpy(writer_.claim()->data(), record.data() + sent, bytes);
    const auto marks = static_cast<ChunkMark>((sent == 0 ? kFirstChunk : 0U) |
                                              (sent + bytes == record.size() ? kLastChunk : 0U));
    writer_.publish(static_cast<uint32_t>(bytes), marks, record.size());
    memory_.data().ring();
    sent += bytes;
  } while (sent < record.size());
  return absl::OkStatus();
}

Status ShmSender::wait_for_slot(Deadline deadline) {
  if (!memory_.is_closed() && writer_.claim()) return absl::OkStatus();
  const bool watches = is_watching(reader_pidfds_);
  writer_.count_wait();
  while (!memory_.is_closed()) {
    if (writer_.claim()) return absl::OkStatus();
    const auto can_go_on = [&] { return writer_.claim().has_value() || memory_.is_closed(); };
    if (wait_for(memory_.space(), ring_, spin_, slice_of(deadline, watches), can_go_on)) continue;
    const bool is_over = deadline.has_passed() ||
                         std::any_of(reader_pidfds_.begin(), reader_pidfds_.end(), has_died);
    if (is_over) return explain_full();
  }
  return closed_error();
}

Status ShmSender::explain_full() const {
  for (uint32_t reader = 0; reader < reader_pidfds_.size(); ++reader) {
    if (has_died(reader_pidfds_[reader])) {
      return error(StatusCode::kUnavailable, "reader %d of the shared queue has died", reader);
    }
  }
  const uint32_t slowest = writer_.slowest_reader();
  return error(StatusCode::kDeadlineExceeded,
               "reader %d of the shared queue is %d chunks behind and takes no more", slowest,
               writer_.backlog_of(slowest));
}

ShmReceiver::ShmReceiver(const QueueMemory& memory, uint32_t reader, Duration spin_max)
    : memory_(memory),
      reader_index_(reader),
      reader_(memory.ring(0), reader, memory.space(), memory.shape().record_bytes_max),
      spin_(spin_max, &memory.ring(0).head(reader).parks) {}

StatusOr<std::span<const std::byte>> ShmReceiver::receive(Deadline deadline) {
  TRIREME_CHECK(!reader_.holds_record(), "release() comes before the next receive()");
  while (true) {
    // In this order: what was sent before the end is still taken.
    const bool is_last_look = memory_.is_closed() || has_died(writer_pidfd_);
    std::span<const std::byte> record;
    switch (reader_.look(record)) {
      case RecordReader::Look::kRecord:
        return record;
      case RecordReader::Look::kBroken:
        return broken_error(0);
      case RecordReader::Look::kNothing:
        break;
    }
    if (is_last_look) {
      if (memory_.is_closed()) return closed_error();
      return Status(StatusCode::kUnavailable, "the writer of the shared queue has died");
    }
    if (deadline.has_passed()) return late_error("no record in time");
    const auto can_go_on = [&] { return reader_.has_chunk() || memory_.is_closed(); };
    wait_for(memory_.data(), reader_index_, spin_, slice_of(deadline, writer_pidfd_ >= 0),
             can_go_on);
  }
}

ShmCollector::ShmCollector(const QueueMemory& memory, Duration spin_max)
    : memory_(memory),
      writer_pidfds_(memory.shape().ring_count, -1),
      spin_(spin_max, &memory.ring(0).head(0).parks) {
  TRIREME_CHECK(memory.shape().reader_count == 1, "a collector is the one reader of its rings");
  for (uint32_t ring = 0; ring < memory.shape().ring_count; ++ring) {
    readers_.emplace_back(memory.ring(ring), 0, memory.space(), memory.shape().record_bytes_max);
  }
}

bool ShmCollector::has_chunk() const {
  return std::any_of(readers_.begin(), readers_.end(),
                     [](const RecordReader& reader) { return reader.has_chunk(); });
}

// NotFound when no ring has a record.
StatusOr<ShmCollector::Received> ShmCollector::look() {
  const auto count = static_cast<uint32_t>(readers_.size());
  for (uint32_t step = 1; step <= count; ++step) {
    const uint32_t ring = (last_ring_ + step) % count;
    Received received{ring, {}};
    const auto found = readers_[ring].look(received.record);
    if (found == RecordReader::Look::kBroken) return broken_error(ring);
    if (found == RecordReader::Look::kNothing) continue;
    last_ring_ = ring;
    return received;
  }
  return Status(StatusCode::kNotFound, {});
}

Status ShmCollector::find_dead_writer() const {
  if (memory_.is_closed()) return closed_error();
  for (uint32_t ring = 0; ring < writer_pidfds_.size(); ++ring) {
    if (has_died(writer_pidfds_[ring])) {
      return error(StatusCode::kUnavailable, "the writer of ring %d of the shared queue has died",
                   ring);
    }
  }
  return absl::OkStatus();
}

StatusOr<ShmCollector::Received> ShmCollector::receive(Deadline deadline) {
  TRIREME_CHECK(!readers_[last_ring_].holds_record(), "release() comes before the next receive()");
  const bool watches = is_watching(writer_pidfds_);
  Status dead = absl::OkStatus();
  while (true) {
    auto received = look();
    if (received.status().code() != StatusCode::kNotFound) return received;
    TRIREME_RETURN_IF_ERROR(dead);
    // Once more after this: what was sent before the end is still taken.
    dead = find_dead_writer();
    if (!dead.ok()) continue;
    if (deadline.has_passed()) return late_error("no record in time");
    const auto can_go_on = [&] { return has_chunk() || memory_.is_closed(); };
    wait_for(memory_.data(), 0, spin_, slice_of(deadline, watches), can_go_on);
  }
}

}  // namespace trireme::shm
