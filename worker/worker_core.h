// The worker around any Model: sequence table, forwards, sampling (worker.h is what drives it).
#pragma once

#include <memory>

#include "worker/comm/collective.h"
#include "worker/comm/pipe.h"
#include "worker/models/model.h"
#include "worker/worker.h"

namespace trireme::worker {

struct WorkerParts {
  WorkerPlace place;
  std::unique_ptr<Collective> tensor_parallel;  // Outlives the model.
  std::shared_ptr<void> foundation;             // Whatever else must outlive the model.
  std::unique_ptr<Model> model;
  std::unique_ptr<HiddenPipe> from_previous;  // Required from the second stage on.
  std::unique_ptr<HiddenPipe> to_next;        // Required before the last stage.
  uint64_t kv_bytes_max = 0;
  uint32_t load_milliseconds = 0;
  uint32_t logits_rows_max = 64;  // In one forward, beyond one per sampling row.
};

[[nodiscard]] std::unique_ptr<Worker> make_worker(WorkerParts parts);

}  // namespace trireme::worker
