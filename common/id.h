// Strong integer ids: a WaveId is not an EngineId, and the compiler says so.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace trireme {

template <typename Tag, typename Rep>
struct Id {
  using Value = Rep;
  Rep value{};
  friend constexpr auto operator<=>(const Id&, const Id&) = default;
  [[nodiscard]] constexpr Id next() const { return Id{static_cast<Rep>(value + 1)}; }
};

using EngineId = Id<struct EngineIdTag, uint32_t>;  // The data-parallel rank.
using WaveId = Id<struct WaveIdTag, uint64_t>;
// A wave's number is above all that earlier coordinators of the cluster may have given, told of or
// not: the time at which its coordinator began, and a count below it. People are shown the count.
inline constexpr int kWaveCounterBits = 20;
[[nodiscard]] constexpr WaveId wave_base(uint64_t unix_milliseconds) {
  return WaveId{unix_milliseconds << kWaveCounterBits};
}
[[nodiscard]] constexpr uint64_t wave_number(WaveId wave) {
  return wave.value & ((uint64_t{1} << kWaveCounterBits) - 1);
}
using StepId = Id<struct StepIdTag, uint64_t>;
using Epoch = Id<struct EpochTag, uint64_t>;  // Of the coordinator's view; only grows.
// One life of one process: drawn at its start, compared for equality only. What an older life
// of the same rank sends is dropped.
using Incarnation = Id<struct IncarnationTag, uint64_t>;
// One start of a node, drawn by its launcher or headless node agent and told to all they start; 0:
// a process that stands alone. Of two processes with one number, the later one is the successor
// only within a launch.
using LaunchId = Id<struct LaunchIdTag, uint64_t>;
// A request as one front end's life knows it. Unique there; (front end, key) is unique in the
// cluster.
using RequestKey = Id<struct RequestKeyTag, uint64_t>;
using BlockId = Id<struct BlockIdTag, int32_t>;
using SlotId = Id<struct SlotIdTag, uint32_t>;  // A running sequence's place in engine and workers.

}  // namespace trireme

template <typename Tag, typename Rep>
struct std::hash<trireme::Id<Tag, Rep>> {
  std::size_t operator()(const trireme::Id<Tag, Rep>& id) const noexcept {
    return std::hash<Rep>{}(id.value);
  }
};
