// Loads one rank's share of the model in a directory.
#pragma once

#include <memory>
#include <string>

#include "worker/comm/collective.h"
#include "worker/comm/expert_exchange.h"
#include "worker/device_factory.h"
#include "worker/models/model.h"
#include "worker/sign_of_life.h"
#include "worker/thread_pool.h"
#include "worker/weights/model_directory.h"
#include "worker/worker.h"

namespace trireme::worker {

struct LoadOptions {
  const DeviceFactory* device = nullptr;  // Makes what the model computes on. Null: the CPU.
  // auto keeps the checkpoint's: bfloat16 is computed in bf16, float32 in fp32, and float16 in fp32
  // too (its values are exact there, while bf16 would drop three bits). What is not quantised of a
  // quantised model is computed in bf16.
  std::string dtype = "auto";  // auto | bfloat16 | float16 | float32
  // Of K and V: auto keeps that of the computation, int8 takes half of bfloat16 (docs/models.md).
  std::string kv_cache_dtype = "auto";  // auto | bfloat16 | int8
  // int8 | int4: what a checkpoint of wider numbers becomes. Or the name of what it is, or empty.
  std::string quantization;
  std::string cpu_kernels = "auto";  // Or a table's name (worker/kernels/cpu/kernel_table.h).
  uint32_t block_tokens = 16;
  LifeSigns life;            // Where forwards say what they are at.
  bool wants_logits = true;  // False: served for its hidden states only.
  // The longest sequence that is served (--max-model-len), on all workers alike; 0: what the model
  // allows. Some turn by other angles where that is short (worker/models/rope.h).
  uint32_t tokens_max = 0;
  // Where the weights are kept; outlives the model. Null: in memory of the model's own.
  cpu::HostArena* weights = nullptr;
  // Of a mixture whose experts are divided over the members of waves; outlives the model. Null: all
  // are here, or this rank's part of each.
  ExpertExchange* experts = nullptr;
  ExpertHome expert_home;        // Which of them are loaded; the others when they are taken over.
  uint32_t workers_of_node = 1;  // That have as much KV memory each.
};

// Errors name the tensor, field or flag: an unknown architecture lists the supported ones, a size
// that does not divide over the ranks names both numbers. The directory, the collective and the
// pool outlive the model; the embedding table is read from the mapped checkpoint itself.
[[nodiscard]] StatusOr<std::unique_ptr<Model>> load_model(
    const ModelDirectory& directory, const WorkerPlace& place, const LoadOptions& options,
    Collective& tensor_parallel, ThreadPool& pool, const Progress& progress);

// What the weights of all ranks together will take, about. dtype, quantization: LoadOptions'.
// expert_copies: how many times they have each expert; less than 1 where other nodes have some.
// keeps_float8: DeviceMemory's.
[[nodiscard]] StatusOr<uint64_t> weight_bytes_to_load(const ModelDirectory& directory,
                                                      const std::string& dtype,
                                                      const std::string& quantization,
                                                      double expert_copies = 1,
                                                      bool keeps_float8 = false);

}  // namespace trireme::worker
