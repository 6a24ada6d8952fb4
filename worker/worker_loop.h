// A worker process: takes records from its engine's queue, answers on its own.
//
//   start      loads; WorkerReady first, with the error's text if loading failed
//   KvInit     allocates; answered by a StepResult of step 0
//   ReleaseKv  gives KV memory back to the system; answered by a StepResult of step 0
//   TellExperts  answered by a StepResult of step 0 with the load of experts
//   StepInput  executes; answered by a StepResult, in order
//   JoinWave   joins; not answered
//   StopWorker or a closed queue: ends with OK
// A step that fails is answered with `error` set, and the loop ends with that error: the group
// cannot go on without this rank. Bytes that cannot be decoded end it too.
// Threads: run_worker() takes the calling thread until the end.
#pragma once

#include <functional>
#include <memory>

#include "common/message_queue.h"
#include "worker/worker.h"

namespace trireme::worker {

using LoadWorker = std::function<StatusOr<std::unique_ptr<Worker>>()>;

[[nodiscard]] Status run_worker(uint32_t rank, const LoadWorker& load, MessageReceiver& steps,
                                MessageSender& results);

}  // namespace trireme::worker
