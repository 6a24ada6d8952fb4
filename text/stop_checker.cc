#include "text/stop_checker.h"

#include <algorithm>
#include <utility>

namespace trireme::text {
namespace {

// fallback[n]: the longest proper beginning of `stop` that ends its first n bytes.
std::vector<size_t> fallbacks(std::string_view stop) {
  std::vector<size_t> fallback(stop.size() + 1, 0);
  size_t length = 0;
  for (size_t i = 1; i < stop.size(); ++i) {
    while (length > 0 && stop[i] != stop[length]) length = fallback[length];
    if (stop[i] == stop[length]) ++length;
    fallback[i + 1] = length;
  }
  return fallback;
}

}  // namespace

StopChecker::StopChecker(std::vector<std::string> stops, bool include_stop)
    : include_stop_(include_stop) {
  matchers_.reserve(stops.size());
  for (std::string& stop : stops) {
    std::vector<size_t> fallback = fallbacks(stop);
    matchers_.push_back({.stop = std::move(stop), .fallback = std::move(fallback)});
  }
}

std::string_view StopChecker::push(std::string_view piece) {
  if (stopped_.has_value()) return {};
  if (matchers_.empty()) return piece;
  buffer_.erase(0, handed_count_);
  const size_t held = buffer_.size();
  buffer_.append(piece);
  for (size_t i = held; i < buffer_.size(); ++i) {
    stopped_ = advance_all(buffer_[i]);
    if (!stopped_.has_value()) continue;
    const size_t stop_end = i + 1;
    handed_count_ = include_stop_ ? stop_end : stop_end - matchers_[*stopped_].stop.size();
    buffer_.resize(handed_count_);
    return buffer_;
  }
  handed_count_ = buffer_.size() - matched_max();
  return std::string_view(buffer_).substr(0, handed_count_);
}

std::string_view StopChecker::flush() {
  if (stopped_.has_value()) return {};
  buffer_.erase(0, handed_count_);
  handed_count_ = buffer_.size();
  for (Matcher& matcher : matchers_) matcher.matched = 0;
  return buffer_;
}

std::optional<size_t> StopChecker::advance_all(char byte) {
  std::optional<size_t> found;
  for (size_t i = 0; i < matchers_.size(); ++i) {
    if (matchers_[i].advance(byte) && !found.has_value()) found = i;
  }
  return found;
}

size_t StopChecker::matched_max() const {
  size_t longest = 0;
  for (const Matcher& matcher : matchers_) longest = std::max(longest, matcher.matched);
  return longest;
}

bool StopChecker::Matcher::advance(char byte) {
  if (stop.empty()) return false;
  while (matched > 0 && stop[matched] != byte) matched = fallback[matched];
  if (stop[matched] == byte) ++matched;
  return matched == stop.size();
}

}  // namespace trireme::text
