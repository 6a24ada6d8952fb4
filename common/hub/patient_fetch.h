// http_fetch for a hub that limits its callers: where it answers 429, waits as long as Retry-After
// says and asks again. Blocking; a SIGTERM or SIGINT that the process has blocked ends the wait.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "common/hub/http_fetch.h"

namespace trireme::hub {

inline constexpr int kPausesMax = 5;
inline constexpr uint32_t kPauseSecondsMax = 300;  // The hub counts by five minutes.

// Told before each wait.
using PauseSink = std::function<void(uint32_t seconds)>;

// Seconds that a 429 asks to wait, at least 1; without a number of its own (it may be a date) few.
// None: more than kPauseSecondsMax.
[[nodiscard]] std::optional<uint32_t> pause_seconds(const HttpResponse& response);

// What http_fetch gives, 429 after kPausesMax waits too. kResourceExhausted: the wait would be too
// long. kCancelled: told to stop.
[[nodiscard]] StatusOr<HttpResponse> patient_fetch(const HttpRequest& request,
                                                   const PauseSink& on_pause,
                                                   const BodySink& sink = nullptr);

}  // namespace trireme::hub
