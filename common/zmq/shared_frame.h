// SharedFrame: a frame that is sent any number of times without a copy of its bytes: libzmq counts
// who still needs them. Threads: one owner, the one of the sockets that send it.
#pragma once

#include <cstddef>
#include <span>

namespace trireme::zmq {

class SharedFrame {
 public:
  SharedFrame();
  SharedFrame(const SharedFrame&) = delete;
  SharedFrame& operator=(const SharedFrame&) = delete;
  ~SharedFrame();

  // New bytes, to be written before they are first sent. Those of before go once they are sent.
  [[nodiscard]] std::span<std::byte> renew(std::size_t size);
  void clear();

 private:
  friend class Socket;
  alignas(void*) std::byte raw_[64];  // A zmq_msg_t.
};

}  // namespace trireme::zmq
