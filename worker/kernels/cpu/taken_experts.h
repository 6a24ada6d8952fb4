// TakenExperts: experts of workers that are away, loaded from the checkpoint when they are first
// needed, and kept while there is memory for them; else each is loaded whenever it is needed, so
// that a small machine is slow for a while and not out of memory. Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <span>

#include "worker/device.h"

namespace trireme::worker::cpu {

class TakenExperts {
 public:
  [[nodiscard]] bool empty() const { return taken_.empty(); }
  // How often all, of every layer, went for the room of one.
  [[nodiscard]] uint64_t clear_count() const { return clear_count_; }
  [[nodiscard]] bool has(const ExpertWeights& elsewhere) const {
    return taken_.contains(&elsewhere);
  }

  // What `elsewhere` loads; valid until the next call. `reserve`: gives the bytes of memory
  // that are promised to others. `on_piece`: not called for what was loaded before. Errors: those
  // of loading; kResourceExhausted: there is not even room for one.
  [[nodiscard]] StatusOr<const ExpertWeights*> find(const ExpertWeights& elsewhere,
                                                    const std::function<uint64_t()>& reserve,
                                                    const OnPiece& on_piece);

  // Of a layer; true: one was forgotten.
  template <typename IsWanted>
  bool forget_unless(std::span<const ExpertWeights> layer, const IsWanted& is_wanted) {
    const std::size_t before = taken_.size();
    const auto end = taken_.lower_bound(layer.data() + layer.size());
    for (auto at = taken_.lower_bound(layer.data()); at != end;) {
      const auto expert = static_cast<uint32_t>(at->first - layer.data());
      at = is_wanted(expert) ? std::next(at) : taken_.erase(at);
    }
    return taken_.size() < before;
  }

 private:
  std::map<const ExpertWeights*, ExpertWeights> taken_;  // By what says how to load it.
  std::optional<ExpertWeights> passing_;                 // The last one that there was no room for.
  uint64_t clear_count_ = 0;
};

}  // namespace trireme::worker::cpu
