// StepExchange: how the ranks of a wave hear one another's records before each step.
//
// post() and gather() never block. Who waits for records sleeps on fd() between about_to_wait() and
// woke_up(), after one more look in between, as with a Bell.
// Threads: one owner, the engine's main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine_core/lockstep/step_record.h"
#include "proto/membership.h"
#include "proto/step_agreement.h"

namespace trireme::engine {

class StepExchange {
 public:
  virtual ~StepExchange() = default;

  // From another node.
  virtual void hear(const wire::StepAgreement&) {}
  // Before the first record of a wave.
  virtual void enter(const wire::StartWave&) {}
  // This rank's record, for all `ranks`; lasts until the next but one.
  virtual void post(const StepRecord& record, std::span<const uint32_t> ranks) = 0;
  // The records of all these ranks for this step, combined; nothing while one is missing.
  [[nodiscard]] virtual std::optional<StepSummary> gather(WaveId wave, uint64_t step,
                                                          std::span<const uint32_t> ranks) = 0;
  // Whose are missing.
  [[nodiscard]] virtual std::vector<uint32_t> missing(WaveId wave, uint64_t step,
                                                      std::span<const uint32_t> ranks) = 0;

  // Called now and then while records are missing: what may have been lost is said again.
  virtual void repeat() {}

  [[nodiscard]] virtual int fd() const = 0;
  virtual void about_to_wait() = 0;
  virtual void woke_up() = 0;

 protected:
  StepExchange() = default;
  StepExchange(const StepExchange&) = delete;
  StepExchange& operator=(const StepExchange&) = delete;
};

}  // namespace trireme::engine
