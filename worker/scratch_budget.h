// What a worker takes beside weights and KV when a step is full: an upper estimate from the model's
// shapes and the flags, made before the first step. Pure.
//
//   per token of --max-num-batched-tokens, in fp32:
//     hidden states   residual, deltas, normed and reordered rows, what goes to the next stage
//     attention       q, k, v and what was attended, of this rank's heads; with a latent cache,
//                     q in the latent's space too
//     feed forward    gate, up and activated columns of this rank; with experts, of each chosen one
//     packed rows     of the widest matrix and of the one behind the activation
//   where experts are divided over `wave_places` places, the rows of a round that come from all of
//     them, and what the experts make of them (comm/expert_exchange.h)
//   per row of logits: this rank's part, the gathered and the returned one
// The device's rope tables, thread stacks and the sampler's rows are small beside these.
#pragma once

#include <cstdint>

#include "common/options/serve_options.h"
#include "worker/weights/model_config.h"
#include "worker/worker.h"

namespace trireme::worker {

[[nodiscard]] uint64_t scratch_bytes(const ModelConfig& config, const WorkerPlace& place,
                                     const SchedulerOptions& options, uint32_t logits_rows_max,
                                     uint32_t wave_places = 1);

}  // namespace trireme::worker
