#include "common/process/pulse_watch.h"

#include <algorithm>

#include "common/status.h"

namespace trireme::process {
namespace {

const char* meaning_of(const ProcessState& process) {
  if (process.is_stopped()) return ", stopped";
  if (process.letter == 'D') return ", waits for a disk";
  if (process.letter == 'R') return ", computes";
  if (process.letter == 'S') return ", sleeps";
  return "";
}

}  // namespace

PulseWatch::PulseWatch(Duration silence_max) : silence_max_(std::max(silence_max, kSilenceMin)) {}

void PulseWatch::on_started(Instant now) {
  beats_ = 0;
  silence_ = {};
  looked_at_ = now;
}

bool PulseWatch::look(const PulseSighting& seen, Instant now) {
  const Duration gap = now - looked_at_;
  looked_at_ = now;
  const bool is_starting = seen.beats == 0 && !seen.process.is_stopped();
  if (is_starting || is_news(seen.beats) || seen.is_traced || gap > kGapMax) {
    beats_ = seen.beats;
    silence_ = {};
    return false;
  }
  silence_ += gap;
  return silence_ >= silence_max_;
}

std::string PulseWatch::describe(const PulseSighting& seen) const {
  return absl::StrFormat("killed, as its main loop made no turn for %.1f s (process state %c%s)",
                         std::chrono::duration<double>(silence_).count(), seen.process.letter,
                         meaning_of(seen.process));
}

}  // namespace trireme::process
