// A lossless, bounded queue of records between processes, whatever carries it.
//
//   engine ── MessageSender ══> MessageReceiver ── worker      every receiver gets every record,
//                          ╚══> MessageReceiver ── worker      in order
//
// Inside a node it is shared memory (common/shm/shm_queue.h), between nodes a ZeroMQ link
// (common/zmq/remote_queue.h). Nothing is ever dropped: a sender waits for its slowest receiver, at
// most until its deadline, and then names it.
// Threads: each end belongs to one thread.
//
// Codes: DeadlineExceeded (not in time; calling again is fine), Unavailable (the other end has died
// or closed the queue), InvalidArgument (record over the queue's limit), DataLoss (bytes that
// cannot be ours).
#pragma once

#include <cstddef>
#include <span>

#include "common/clock.h"
#include "common/status.h"

namespace trireme {

class MessageSender {
 public:
  virtual ~MessageSender() = default;
  // The record is copied. After an error no receiver gets it, or, beyond Unavailable, only part of
  // them do; none ever gets a part of it.
  [[nodiscard]] virtual Status send(std::span<const std::byte> record, Deadline deadline) = 0;
  // To be called while waiting for something else: a remote queue repeats here what a broken
  // connection lost. Never blocks.
  virtual void service() {}
};

class MessageReceiver {
 public:
  virtual ~MessageReceiver() = default;
  // The next record, valid until release(), which must come before the next receive(). With a
  // deadline that has passed it only looks.
  [[nodiscard]] virtual StatusOr<std::span<const std::byte>> receive(Deadline deadline) = 0;
  virtual void release() = 0;
};

}  // namespace trireme
