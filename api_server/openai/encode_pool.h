// EncodePool: tokenizes short text at once, long text on threads of its own, so that a book does
// not hold up the streams.
//
// Threads: the owner calls encode(), the result comes back on the owner's io_context. Callbacks
// stay with the owner; only text goes over and ids come back.
// Bounds: the text waiting is bounded by the HTTP body limit times the connections.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "text/tokenizer.h"

namespace boost::asio {
class io_context;
}

namespace trireme::api {

class EncodePool {
 public:
  using Ids = std::vector<std::vector<int32_t>>;  // One for each text.
  using Done = std::function<void(StatusOr<Ids>)>;

  static constexpr std::size_t kInlineBytesMax = 4096;  // About half a millisecond at worst.

  EncodePool(boost::asio::io_context& owner, const text::Tokenizer& tokenizer);
  ~EncodePool();

  // Calls `done` before it returns if the texts are short.
  void encode(std::vector<std::string> texts, bool add_special_tokens, Done done);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace trireme::api
