// The worker around any Model: sequence table, forwards, sampling (worker.h is what drives it).
//
// Where experts are divided over the members of a wave, a step that was abandoned is kept. Run
// again it goes on from the first forward that has not sampled: its changes to the table, its moves
// of blocks and its drafts were made once and for all, and KV that an abandoned forward wrote is
// written again. Tensor-parallel ranks agree at the end of each forward whether it was abandoned;
// a stage is told by the one before, with the hidden rows.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/unique_fd.h"
#include "worker/comm/collective.h"
#include "worker/comm/expert_exchange.h"
#include "worker/comm/pipe.h"
#include "worker/device_factory.h"
#include "worker/kv_store.h"
#include "worker/models/model.h"
#include "worker/sign_of_life.h"
#include "worker/thread_pool.h"
#include "worker/worker.h"

namespace trireme::worker {

// What joins a worker to the others of its engine.
struct WorkerLinks {
  std::unique_ptr<Collective> tensor_parallel;
  std::unique_ptr<HiddenPipe> from_previous;  // Required from the second stage on.
  std::unique_ptr<HiddenPipe> to_next;        // Required before the last stage.
  std::unique_ptr<ExpertExchange> experts;    // Required where experts are divided (waves).
  LifeSigns life;                             // For its engine to see.
  UniqueFd weights;  // A shm::SharedImage for the workers of this node in this place; or none.
};

// Where guesses come from, of a worker whose engine has a draft model.
struct DraftParts {
  std::unique_ptr<Model>
      model;                    // Null: they come from the group's first rank, or the stage before.
  uint32_t tokens_max = 0;      // Of a sequence, that the model can compute.
  bool is_first_ranks = false;  // It alone of its tensor-parallel group has the model.
};

struct WorkerParts {
  WorkerPlace place;
  WorkerLinks links;
  std::shared_ptr<void> foundation;  // Whatever else must outlive the model.
  std::unique_ptr<Model> model;      // After what it uses, so that it goes first.
  std::optional<DraftParts> draft;
  ThreadPool* pool = nullptr;  // Spreads the sampling of many rows; null: nobody helps.
  uint64_t kv_bytes_max = 0;
  uint32_t load_milliseconds = 0;
  uint32_t logits_rows_max = 64;  // In one forward, beyond one per sampling row.
  // Opens the store for so many blocks of so many bytes beside so many bytes of KV memory; null:
  // this worker has none.
  using OpenStore = std::function<StatusOr<std::unique_ptr<KvStore>>(
      uint32_t slot_count, uint64_t slot_bytes, uint64_t kv_bytes)>;
  OpenStore open_store;
};

[[nodiscard]] std::unique_ptr<Worker> make_worker(WorkerParts parts);

// Worker::load with pipes to the other stages, on what `factory` makes.
[[nodiscard]] StatusOr<std::unique_ptr<Worker>> load_stage(const ServeOptions& options,
                                                           const WorkerPlace& place,
                                                           WorkerLinks links,
                                                           DeviceFactory& factory,
                                                           const Progress& progress);

}  // namespace trireme::worker
