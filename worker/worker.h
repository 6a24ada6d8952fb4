// Worker: one device's share of an engine: weights, KV memory, the running sequences' state,
// sampling.
//
// The engine drives it with wire::StepInput and gets wire::StepResult, in the same process
// (executor uni) or through a queue (worker_loop.h, executor mp). The worker keeps per slot what
// the steps have told it (tokens, block table, sampling parameters), so that a step carries only
// changes. Every TP rank computes all logits' share, gathers the whole vocabulary and samples by
// itself: the noise is a function of (seed, position), so all ranks get the same token without a
// broadcast.
//
// Threads: one thread calls everything.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"
#include "proto/step.h"
#include "worker/comm/collective.h"

namespace trireme::worker {

struct WorkerPlace {
  uint32_t tp_rank = 0;
  uint32_t tp_size = 1;
  uint32_t pp_rank = 0;
  uint32_t pp_size = 1;
  std::vector<int> cpus;  // Cores this worker may use; empty: all the process may.
};

// Called at load with a stage ("weights") and the share done in [0, 1].
using Progress = std::function<void(std::string_view stage, double done)>;

class Worker {
 public:
  virtual ~Worker() = default;

  // Loads the weights of this place, for the CPU. Errors name the file and what is wrong with it.
  [[nodiscard]] static StatusOr<std::unique_ptr<Worker>> load(
      const ServeOptions& options, const WorkerPlace& place,
      std::unique_ptr<Collective> tensor_parallel, const Progress& progress);

  [[nodiscard]] virtual wire::WorkerReady ready() const = 0;
  [[nodiscard]] virtual Status allocate_kv(uint32_t block_count) = 0;
  // After allocate_kv(), where --kv-offloading-size is given: as many blocks fit into the store.
  [[nodiscard]] virtual Status open_store(uint32_t slot_count) = 0;
  // Between steps: what is in KV memory is lost, and the memory goes back to the system until a
  // step writes it again.
  virtual void release_kv() = 0;
  // Before the first step of each wave, where experts are divided over its ranks.
  [[nodiscard]] virtual Status join_wave(const wire::JoinWave& wave) = 0;
  // Between steps: the load of its stage's experts; expert_count 0: it does not count it.
  [[nodiscard]] virtual wire::ExpertTable expert_table() const = 0;
  // is_abandoned in the result: the wave was left. The step is kept, and after the next join_wave()
  // StepKind::kAgain goes on with it; so does that on a worker that was through with the step. The
  // answer has the id that kAgain has, or the step's own where that is 0.
  // A failed Status means the worker is broken; a single bad sequence is kBadLogits in the result.
  [[nodiscard]] virtual StatusOr<wire::StepResult> execute(const wire::StepInput& step) = 0;

 protected:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
};

}  // namespace trireme::worker
