// The project's one door to absl::Status.
//
// Debian 12's abseil keeps its own string_view type, so a std::string_view goes neither into
// absl::StrCat nor into absl::InternalError. Everything here formats with absl::StrFormat, which
// takes both; no other header of ours names absl::string_view.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"

namespace trireme {

using absl::Status;
using absl::StatusCode;
using absl::StatusOr;

template <typename... Args>
[[nodiscard]] Status error(StatusCode code, const absl::FormatSpec<Args...>& format,
                           const Args&... args) {
  return Status(code, absl::StrFormat(format, args...));
}

// Adds where the error passed: "load shard 3: open /models/x: Permission denied".
[[nodiscard]] inline Status annotate(const Status& status, const std::string& where) {
  if (status.ok()) return status;
  return Status(status.code(), absl::StrFormat("%s: %s", where, std::string(status.message())));
}

}  // namespace trireme

#define TRIREME_RETURN_IF_ERROR(expression)                                              \
  do {                                                                                   \
    if (auto trireme_status = (expression); !trireme_status.ok()) return trireme_status; \
  } while (false)

#define TRIREME_CONCAT_INNER(a, b) a##b
#define TRIREME_CONCAT(a, b) TRIREME_CONCAT_INNER(a, b)
#define TRIREME_ASSIGN_OR_RETURN(lhs, expression) \
  TRIREME_ASSIGN_OR_RETURN_INNER(TRIREME_CONCAT(trireme_result_, __LINE__), lhs, expression)
#define TRIREME_ASSIGN_OR_RETURN_INNER(result, lhs, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return result.status();                     \
  lhs = std::move(result).value()
