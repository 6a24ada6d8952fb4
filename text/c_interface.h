// Between the C interface of the Rust crate and C++: views, owned buffers, errors.
// Only text/*.cc include it.
#pragma once

#include <string>
#include <string_view>

#include "absl/base/dynamic_annotations.h"
#include "common/status.h"
#include "text/trireme_text.h"

namespace trireme::text {

[[nodiscard]] inline TriremeTextView to_view(std::string_view text) {
  // An empty view still means "given", which a null pointer would not.
  return {reinterpret_cast<const uint8_t*>(text.data() != nullptr ? text.data() : ""), text.size()};
}

[[nodiscard]] inline std::string_view from_view(TriremeTextView view) {
  return {reinterpret_cast<const char*>(view.data), view.size};
}

// The crate is not built for the thread sanitizer, which so sees its memory but not its locks, and
// would report races that are none. It looks away from the calling thread while one of these lives.
class CrateCall {
 public:
  CrateCall() { ABSL_ANNOTATE_IGNORE_READS_AND_WRITES_BEGIN(); }
  CrateCall(const CrateCall&) = delete;
  CrateCall& operator=(const CrateCall&) = delete;
  ~CrateCall() { ABSL_ANNOTATE_IGNORE_READS_AND_WRITES_END(); }
};

// A buffer that a call fills and this frees.
class OwnedBytes {
 public:
  OwnedBytes() = default;
  OwnedBytes(const OwnedBytes&) = delete;
  OwnedBytes& operator=(const OwnedBytes&) = delete;
  ~OwnedBytes() {
    const CrateCall call;
    trireme_text_bytes_free(bytes_);
  }

  [[nodiscard]] TriremeTextBytes* out() { return &bytes_; }
  [[nodiscard]] std::string to_string() const {
    return {reinterpret_cast<const char*>(bytes_.data), bytes_.size};
  }

 private:
  TriremeTextBytes bytes_{};
};

[[nodiscard]] inline Status to_status(int32_t code, const OwnedBytes& message) {
  if (code == 0) return {};
  return error(static_cast<StatusCode>(code), "%s", message.to_string());
}

}  // namespace trireme::text
