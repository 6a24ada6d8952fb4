// Message: what a socket received. Reusable: receiving into it again frees what it held.
//
// Frames lie where libzmq put them; spans stay valid until the next receive into this message.
// Bound: kFramesMax frames. A message with more is dropped by the socket, and counted.
// Threads: one owner.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace trireme::zmq {

using Bytes = std::span<const std::byte>;
inline constexpr std::size_t kFramesMax = 16;

[[nodiscard]] inline Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Message {
 public:
  Message();
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  ~Message();

  // The sender's identity, when a Router received it.
  [[nodiscard]] std::string_view peer() const;
  [[nodiscard]] std::size_t frame_count() const { return frame_count_; }
  [[nodiscard]] Bytes frame(std::size_t index) const;
  // Frees what it holds.
  void clear();

 private:
  friend class Socket;
  struct alignas(void*) Part {
    std::byte raw[64];  // A zmq_msg_t.
  };
  std::array<Part, kFramesMax + 1> parts_;  // The last one holds the identity.
  std::size_t frame_count_ = 0;
};

}  // namespace trireme::zmq
