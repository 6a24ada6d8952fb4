// Finds stop strings in text that comes in pieces.
//
//   push(piece) -> the text that is certainly wanted; stopped() -> which stop ended it; flush() ->
//   what was held back, when the text ends without a stop.
//
// A stop is found at the first byte that completes one; when that byte completes several, the one
// named first wins. So the outcome depends on the text only, never on how it was cut into pieces.
// Text is held back only while it may be the beginning of a stop: at most the longest stop less
// one byte. With valid UTF-8 in pieces of whole characters, whole characters go out.
//
// One sequence, one thread. Empty stop strings are ignored. A push costs its bytes times the stops.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::text {

class StopChecker {
 public:
  // `include_stop`: the text ends with the stop string, not before it.
  StopChecker(std::vector<std::string> stops, bool include_stop);

  // The views hold until the next call, or as long as `piece` does if that is shorter. After a
  // stop nothing more comes.
  [[nodiscard]] std::string_view push(std::string_view piece);
  [[nodiscard]] std::string_view flush();

  // The stop that was found, as its index in `stops`.
  [[nodiscard]] std::optional<size_t> stopped() const { return stopped_; }
  [[nodiscard]] const std::string& stop(size_t index) const { return matchers_[index].stop; }

 private:
  // Knuth, Morris, Pratt: `matched` is how much of the stop the text now ends with.
  struct Matcher {
    std::string stop;
    std::vector<size_t> fallback;
    size_t matched = 0;

    [[nodiscard]] bool advance(char byte);
  };

  [[nodiscard]] std::optional<size_t> advance_all(char byte);
  [[nodiscard]] size_t matched_max() const;

  std::vector<Matcher> matchers_;
  bool include_stop_;
  std::string buffer_;       // text handed out by the last call, then text held back
  size_t handed_count_ = 0;  // how much of buffer_ the last call handed out
  std::optional<size_t> stopped_;
};

}  // namespace trireme::text
