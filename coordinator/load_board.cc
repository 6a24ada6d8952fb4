#include "coordinator/load_board.h"

namespace trireme::coordinator {

bool LoadBoard::on_report(const wire::LoadReport& report) {
  const auto [place, is_new] = reports_.try_emplace(report.engine, report);
  if (!is_new) {
    wire::LoadReport& last = place->second;
    const bool is_same_life = last.incarnation == report.incarnation;
    if (is_same_life && report.sequence <= last.sequence) return false;
    const bool is_same_load = is_same_life && last.stats == report.stats;
    last = report;
    if (is_same_load) return true;
  }
  is_changed_ = true;
  return true;
}

void LoadBoard::forget(EngineId engine) {
  if (reports_.erase(engine) > 0) is_changed_ = true;
}

void LoadBoard::note(const wire::CoordinatorStats& stats) {
  if (stats == stats_) return;
  stats_ = stats;
  is_changed_ = true;
}

void LoadBoard::say_again() {
  if (!reports_.empty() || stats_ != wire::CoordinatorStats{}) is_changed_ = true;
}

std::optional<wire::LoadBoard> LoadBoard::tick(Instant now, Epoch epoch) {
  if (now < wakeup()) return std::nullopt;
  wire::LoadBoard board{.epoch = epoch, .reports = {}, .stats = stats_};
  board.reports.reserve(reports_.size());
  for (const auto& [engine, report] : reports_) board.reports.push_back(report);
  published_at_ = now;
  is_changed_ = false;
  return board;
}

Instant LoadBoard::wakeup() const {
  if (!is_changed_) return Instant::max();
  return published_at_ == Instant::min() ? Instant::min() : published_at_ + kPublishInterval;
}

}  // namespace trireme::coordinator
