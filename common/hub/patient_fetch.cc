#include "common/hub/patient_fetch.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <ctime>

namespace trireme::hub {
namespace {

constexpr uint16_t kTooManyRequests = 429;
constexpr uint32_t kPauseSecondsDefault = 5;

// False: a signal to stop came.
bool wait(uint32_t seconds) {
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGTERM);
  sigaddset(&stops, SIGINT);
  const timespec time{.tv_sec = seconds, .tv_nsec = 0};
  return sigtimedwait(&stops, nullptr, &time) < 0;
}

}  // namespace

std::optional<uint32_t> pause_seconds(const HttpResponse& response) {
  const auto found = response.headers.find("retry-after");
  if (found == response.headers.end()) return kPauseSecondsDefault;
  const std::string& text = found->second;
  uint32_t seconds = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (code == std::errc::result_out_of_range || seconds > kPauseSecondsMax) return std::nullopt;
  if (code != std::errc() || end != text.data() + text.size()) return kPauseSecondsDefault;
  return std::max(seconds, 1U);
}

StatusOr<HttpResponse> patient_fetch(const HttpRequest& request, const PauseSink& on_pause,
                                     const BodySink& sink) {
  for (int pause = 0;; ++pause) {
    auto response = http_fetch(request, sink);
    if (!response.ok() || response->status != kTooManyRequests || pause == kPausesMax) {
      return response;
    }
    const std::optional<uint32_t> seconds = pause_seconds(*response);
    if (!seconds) {
      return error(StatusCode::kResourceExhausted,
                   "%s: the hub answers 429, Retry-After: %s; try again then", request.url,
                   response->headers["retry-after"]);
    }
    if (on_pause) on_pause(*seconds);
    if (!wait(*seconds)) {
      return error(StatusCode::kCancelled, "%s: told to stop while waiting for the hub",
                   request.url);
    }
  }
}

}  // namespace trireme::hub
