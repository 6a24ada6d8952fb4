// The message queue of one node: rings in shared memory, with doorbells for those who wait.
//
//   broadcast   ring_count 1, R readers:   one ShmSender ══> R ShmReceiver
//   responses   N rings of one reader:     N ShmSender ══> one ShmCollector (waits for all at once)
//
// Memory: QueueHeader | Doorbell data | Doorbell space | ring[ring_count] | note[ring_count]
// (see broadcast_ring.h). A note is a line for what a ring's sender wants seen at any time, beside
// its records.
//
// Bounds: a record has at most `record_bytes_max` bytes; one larger than a slot goes as several
// chunks, through a ring that may be smaller than the record, and is joined in a buffer of the
// receiver's. Smaller ones are read where they lie.
// Deaths: a wait looks at the pidfds it was given every kPeerCheckInterval; close(), by anyone who
// has the memory, ends all waits at once. Without pidfds a parked wait uses no CPU. Threads: each
// end belongs to one thread; close() is for any. Lifetime: QueueMemory outlives its ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "common/message_queue.h"
#include "common/shm/broadcast_ring.h"
#include "common/shm/doorbell.h"
#include "common/shm/mapping.h"
#include "common/status.h"

namespace trireme::shm {

inline constexpr Duration kPeerCheckInterval = std::chrono::milliseconds(20);

struct QueueShape {
  static constexpr uint64_t kRecordBytesMax = uint64_t{1} << 30;

  uint32_t ring_count = 1;
  uint32_t reader_count = 1;  // Of each ring.
  uint32_t slot_count = 64;   // A power of two.
  uint32_t slot_bytes = 16 * 1024;
  uint64_t record_bytes_max = uint64_t{64} << 20;

  [[nodiscard]] constexpr RingShape ring() const { return {slot_count, slot_bytes, reader_count}; }
  [[nodiscard]] constexpr bool is_valid() const {
    return ring().is_valid() && ring_count > 0 && ring_count <= kWaitersMax &&
           record_bytes_max > 0 && record_bytes_max <= kRecordBytesMax;
  }
};

// All rings of a queue together. The counts only grow.
struct QueueStats {
  uint64_t records = 0;
  uint64_t bytes = 0;
  uint64_t oversize_records = 0;  // Larger than a slot.
  uint64_t writer_waits = 0;      // For a slot.
  uint64_t writer_parks = 0;      // Sleeps, waiting for a slot.
  uint64_t reader_parks = 0;      // Sleeps, waiting for a record.
  uint64_t chunks_waiting = 0;    // That the slowest reader of the fullest ring has still to take.
};

struct alignas(kLine) QueueHeader {
  uint64_t magic;
  QueueShape shape;
  std::atomic<uint32_t> is_closed;
};

class QueueMemory {
 public:
  [[nodiscard]] static StatusOr<QueueMemory> create(const std::string& name, QueueShape shape);
  // In another process, with the descriptor that fd() gave in the first.
  [[nodiscard]] static StatusOr<QueueMemory> attach(UniqueFd fd);

  [[nodiscard]] int fd() const { return mapping_.fd(); }
  [[nodiscard]] const QueueShape& shape() const { return shape_; }
  // Ends every wait: senders fail, receivers take what is there and then fail.
  void close() const noexcept;
  [[nodiscard]] bool is_closed() const { return header().is_closed.load() != 0; }
  // As of now, for any thread; costs the ends a cache line each.
  [[nodiscard]] QueueStats stats() const;
  // kLine bytes, zeroed at creation. Who writes it is the users' business.
  [[nodiscard]] std::span<std::byte> note(uint32_t ring) const;

 private:
  friend class ShmSender;
  friend class ShmReceiver;
  friend class ShmCollector;
  QueueMemory(Mapping mapping, QueueShape shape) : mapping_(std::move(mapping)), shape_(shape) {}
  [[nodiscard]] QueueHeader& header() const;
  [[nodiscard]] Doorbell& data() const;
  [[nodiscard]] Doorbell& space() const;
  [[nodiscard]] std::span<std::byte> ring_bytes(uint32_t ring) const;
  [[nodiscard]] RingMemory ring(uint32_t index) const;

  Mapping mapping_;
  QueueShape shape_;
};

// Joins chunks to records.
class RecordReader {
 public:
  enum class Look : uint8_t { kNothing, kRecord, kBroken };

  RecordReader(RingMemory memory, uint32_t reader, Doorbell& space, uint64_t record_bytes_max);
  Look look(std::span<const std::byte>& record);
  void release();
  [[nodiscard]] bool has_chunk() const { return ring_.has_chunk(); }
  [[nodiscard]] bool holds_record() const { return holds_slot_ || holds_joined_; }

 private:
  void release_slot();
  [[nodiscard]] bool join(const Chunk& chunk);

  RingReader ring_;
  Doorbell* space_;
  uint64_t record_bytes_max_;
  std::vector<std::byte> joined_;
  uint64_t joined_bytes_expected_ = 0;
  bool holds_slot_ = false;
  bool holds_joined_ = false;
};

class ShmSender final : public MessageSender {
 public:
  ShmSender(const QueueMemory& memory, uint32_t ring, Duration spin_max = default_spin_max());

  // DeadlineExceeded and Unavailable name the reader that is behind.
  [[nodiscard]] Status send(std::span<const std::byte> record, Deadline deadline) override;
  // The reader's process, of whose death send() is to know. The pidfd stays the caller's.
  void watch_reader(uint32_t reader, int pidfd);

 private:
  [[nodiscard]] Status wait_for_slot(Deadline deadline);
  [[nodiscard]] Status explain_full() const;

  const QueueMemory& memory_;
  uint32_t ring_;
  RingWriter writer_;
  SpinBudget spin_;
  std::vector<int> reader_pidfds_;
};

class ShmReceiver final : public MessageReceiver {
 public:
  ShmReceiver(const QueueMemory& memory, uint32_t reader, Duration spin_max = default_spin_max());

  [[nodiscard]] StatusOr<std::span<const std::byte>> receive(Deadline deadline) override;
  void release() override { reader_.release(); }
  // Of no use for a parent: a child dies with it anyway, and a watch costs wake-ups.
  void watch_writer(int pidfd) { writer_pidfd_ = pidfd; }

 private:
  const QueueMemory& memory_;
  uint32_t reader_index_;
  RecordReader reader_;
  SpinBudget spin_;
  int writer_pidfd_ = -1;
};

class ShmCollector {
 public:
  struct Received {
    uint32_t ring;
    std::span<const std::byte> record;
  };
  explicit ShmCollector(const QueueMemory& memory, Duration spin_max = default_spin_max());

  // The next record of any ring, each in its order, no ring before another for ever. Unavailable
  // names a ring whose writer has died, once its records are taken.
  [[nodiscard]] StatusOr<Received> receive(Deadline deadline);
  void release() { readers_[last_ring_].release(); }
  void watch_writer(uint32_t ring, int pidfd) { writer_pidfds_[ring] = pidfd; }

 private:
  [[nodiscard]] bool has_chunk() const;
  [[nodiscard]] StatusOr<Received> look();
  [[nodiscard]] Status find_dead_writer() const;

  const QueueMemory& memory_;
  std::vector<RecordReader> readers_;
  std::vector<int> writer_pidfds_;
  SpinBudget spin_;
  uint32_t last_ring_ = 0;
};

}  // namespace trireme::shm
