// TakenExperts: experts of workers that are away, loaded from the checkpoint when they are first
// needed, and kept while there is memory for them; else each is loaded whenever it is needed, so
// that a small machine is slow for a while and not out of memory. Threads: one.
#pragma once

#include <optional>
#include <unordered_map>

#include "worker/device.h"

namespace trireme::worker::cpu {

class TakenExperts {
 public:
  [[nodiscard]] bool empty() const { return taken_.empty(); }

  // What `elsewhere` loads; valid until the next call. `reserve`: bytes of memory that others have
  // been promised. Errors: those of loading; kResourceExhausted: there is not even room for one.
  [[nodiscard]] StatusOr<const ExpertWeights*> find(const ExpertWeights& elsewhere, uint32_t expert,
                                                    uint64_t reserve);

  // Of all layers; how many that were.
  template <typename IsWanted>
  std::size_t forget_unless(const IsWanted& is_wanted) {
    passing_.reset();
    return std::erase_if(taken_, [&](const auto& one) { return !is_wanted(one.second.expert); });
  }

 private:
  struct Taken {
    uint32_t expert = 0;
    ExpertWeights weights;
  };
  std::unordered_map<const ExpertWeights*, Taken> taken_;  // By what says how to load it.
  std::optional<ExpertWeights> passing_;  // The last one that there was no room for.
};

}  // namespace trireme::worker::cpu
