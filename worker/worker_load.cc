// Worker::load: from a model directory to a worker that is ready for its KV memory.
#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "common/log.h"
#include "common/options/pooler.h"
#include "worker/comm/watched_collective.h"
#include "worker/cpu_binding.h"
#include "worker/expert_parallel.h"
#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/kernels/cpu/host_memory.h"
#include "worker/memory_budget.h"
#include "worker/models/load_model.h"
#include "worker/scratch_budget.h"
#include "worker/thread_pool.h"
#include "worker/weight_image.h"
#include "worker/weights/draft_config.h"
#include "worker/weights/model_directory.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

// What outlives the model. Where workers of this node share an image of the weights, they are
// there.
struct Foundation {
  Foundation(ModelDirectory opened, std::optional<ModelDirectory> opened_draft,
             const WorkerCores& cores, std::optional<shm::SharedImage> shared)
      : directory(std::move(opened)),
        draft(std::move(opened_draft)),
        pool(cores.thread_count, cores.cpus),
        image(std::move(shared)) {
    if (image) weights = cpu::HostArena(*image, pool);
  }
  ModelDirectory directory;
  std::optional<ModelDirectory> draft;  // Where this worker has the draft model.
  SoloCollective alone;
  ThreadPool pool;
  std::optional<shm::SharedImage> image;
  cpu::HostArena weights;
};

bool has_draft_model(const ServeOptions& options) {
  return options.scheduler.speculation.has_draft_model() && !serves_embeddings(options);
}

// It guesses before the first stage begins, on all its ranks or the first one.
StatusOr<std::optional<ModelDirectory>> open_draft(const ServeOptions& options,
                                                   const WorkerPlace& place) {
  const bool is_of_all = options.draft_tensor_parallel_size() == place.tp_size;
  const bool is_here = place.pp_rank == 0 && (is_of_all || place.tp_rank == 0);
  if (!has_draft_model(options) || !is_here) return std::nullopt;
  auto opened = ModelDirectory::open(options.draft_directory());
  if (!opened.ok()) return annotate(opened.status(), "--speculative-config");
  return std::optional(*std::move(opened));
}

const char* name_of(const DeviceMemory& memory) {
  return memory.is_own ? kDeviceMemoryName : kHostMemoryName;
}

// Those that take of the same memory.
uint32_t workers_in(const DeviceMemory& memory, const LocalWorkers& workers) {
  return memory.is_own ? 1 : workers.count;
}

// The draft's weights are each worker's own.
StatusOr<WeightBudget> check_memory(const ServeOptions& options, const WorkerPlace& place,
                                    const DeviceMemory& memory, uint32_t local_workers,
                                    const ModelDirectory& directory,
                                    const std::optional<ModelDirectory>& draft,
                                    const std::optional<shm::SharedImage>& image) {
  const uint32_t ranks = place.tp_size * place.pp_size;
  const uint32_t sharers = image ? image->sharers() : 1;
  const ExpertHome home = expert_home(options, directory.config(), place.tp_rank);
  const double expert_copies = double(home.rank_count) * home.tp_size / home.place_count;
  TRIREME_ASSIGN_OR_RETURN(
      const uint64_t all_bytes,
      weight_bytes_to_load(directory, options.model.dtype, options.model.quantization,
                           expert_copies, memory.keeps_float8));
  const WeightBudget weights{.bytes = all_bytes / ranks,
                             .copies = weight_copies(local_workers, sharers),
                             .sharers = sharers,
                             .are_there = image && image->is_made()};
  const uint64_t available = memory.available_bytes;
  TRIREME_RETURN_IF_ERROR(check_weights_fit(weights, available, name_of(memory)));
  if (draft) {
    const uint32_t draft_ranks = options.draft_tensor_parallel_size();
    TRIREME_ASSIGN_OR_RETURN(
        const uint64_t draft_bytes,
        weight_bytes_to_load(*draft, options.model.dtype,
                             options.scheduler.speculation.quantization, 1, memory.keeps_float8));
    const uint64_t bytes = draft_bytes / draft_ranks;
    const uint32_t copies =
        weights.are_there ? 1 : weight_copies(local_workers * draft_ranks, ranks);
    const uint64_t taken = weights.are_there ? 0 : weights.bytes * weights.copies;
    TRIREME_RETURN_IF_ERROR(
        check_weights_fit({.bytes = bytes, .copies = copies}, available - taken, name_of(memory)));
  }
  return weights;
}

// What both models have in common; the rest is the main model's.
LoadOptions load_options(const ServeOptions& options, const DeviceFactory& factory,
                         LifeSigns life) {
  return {.device = &factory,
          .dtype = options.model.dtype,
          .kv_cache_dtype = options.worker.kv_cache_dtype,
          .quantization = options.model.quantization,
          .cpu_kernels = options.worker.cpu_kernels,
          .block_tokens = options.scheduler.block_tokens,
          .life = life,
          .wants_logits = !serves_embeddings(options)};
}

StatusOr<std::unique_ptr<Model>> load_main(const ServeOptions& options, const WorkerPlace& place,
                                           const WorkerLinks& links, const DeviceFactory& factory,
                                           Foundation& foundation, const Progress& progress) {
  LoadOptions load = load_options(options, factory, links.life);
  load.tokens_max = options.model.model_tokens_max;
  load.weights = &foundation.weights;
  load.experts = links.experts.get();
  load.expert_home = expert_home(options, foundation.directory.config(), place.tp_rank);
  load.workers_of_node = load.expert_home.rank_count * place.tp_size * place.pp_size;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                           load_model(foundation.directory, place, load, *links.tensor_parallel,
                                      foundation.pool, progress));
  TRIREME_RETURN_IF_ERROR(foundation.weights.finish());
  foundation.directory.weights().release_pages();  // But for rows of tables all was read for good.
  return model;
}

StatusOr<DraftParts> load_draft(const ServeOptions& options, const WorkerPlace& place,
                                const WorkerLinks& links, const DeviceFactory& factory,
                                Foundation& foundation, const Progress& progress) {
  const SpeculationOptions& speculation = options.scheduler.speculation;
  const uint32_t ranks = options.draft_tensor_parallel_size();
  const bool is_alone = ranks != place.tp_size;
  DraftParts parts{.is_first_ranks = is_alone};
  if (!foundation.draft) return parts;
  const ModelConfig& config = foundation.draft->config();
  TRIREME_ASSIGN_OR_RETURN(parts.tokens_max,
                           check_draft_config(options, foundation.directory.config(), config));
  LoadOptions load = load_options(options, factory, links.life);
  load.quantization = speculation.quantization;
  const uint32_t served = options.model.model_tokens_max;
  load.tokens_max = served > 0 ? std::min(parts.tokens_max, served) : parts.tokens_max;
  TRIREME_ASSIGN_OR_RETURN(
      parts.model,
      load_model(*foundation.draft, {.tp_rank = place.tp_rank, .tp_size = ranks}, load,
                 is_alone ? foundation.alone : *links.tensor_parallel, foundation.pool, progress));
  if (parts.model->needs_whole_prompts()) {
    return error(StatusCode::kInvalidArgument, "%s is an encoder, which guesses no tokens",
                 speculation.model);
  }
  foundation.draft->weights().release_pages();
  log::info("draft_model_loaded", {{"model", speculation.model},
                                   {"weight_bytes", parts.model->weight_bytes()},
                                   {"block_bytes", parts.model->kv_shape().block_bytes},
                                   {"model_tokens_max", parts.tokens_max}});
  return parts;
}

// Before the first thread and the first page of the weights.
StatusOr<WorkerCores> take_cores(const ServeOptions& options, const WorkerPlace& place,
                                 const LocalWorkers& workers) {
  const MachineCores machine = read_machine_cores("", allowed_cpus());
  WorkerCores cores{place.cpus, static_cast<uint32_t>(place.cpus.size())};
  if (cores.cpus.empty()) {
    TRIREME_ASSIGN_OR_RETURN(cores,
                             cores_of_worker(options.worker.cpu_threads_bind, machine, workers));
  }
  const std::vector<int> nodes = machine.nodes_of(cores.cpus);
  if (machine.nodes_of({}).size() > 1 && !keep_memory_on(nodes)) {
    log::warning("memory_unbound", {{"nodes", cpu_list_text(nodes)}});
  }
  log::info("worker_cores", {{"bind", options.worker.cpu_threads_bind},
                             {"cores", cores.cpus.empty() ? "unbound" : cpu_list_text(cores.cpus)},
                             {"threads", cores.thread_count},
                             {"numa_nodes", cpu_list_text(nodes)}});
  return cores;
}

// The draft model guesses before or after the model's own forward: each keeps its scratch.
uint64_t scratch_of(const ServeOptions& options, const WorkerPlace& place,
                    const Foundation& foundation) {
  const uint32_t logits_rows_max = WorkerParts{}.logits_rows_max;
  const ModelConfig& config = foundation.directory.config();
  const uint32_t places = divides_experts(options, config) ? places_of_wave(options) : 1;
  uint64_t bytes = scratch_bytes(config, place, options.scheduler, logits_rows_max, places);
  if (foundation.draft) {
    const WorkerPlace draft{.tp_size = options.draft_tensor_parallel_size()};
    bytes += scratch_bytes(foundation.draft->config(), draft, options.scheduler, logits_rows_max);
  }
  return bytes;
}

// Those of a model without a mixture, or of one rank, need nobody.
Status check_mesh(const ServeOptions& options, const ModelConfig& config, WorkerLinks& links) {
  if (!divides_experts(options, config)) {
    links.experts.reset();
    return absl::OkStatus();
  }
  if (links.experts != nullptr) return absl::OkStatus();
  return error(StatusCode::kInvalidArgument,
               "mesh is missing: --enable-expert-parallel divides the experts over %u workers",
               places_of_wave(options));
}

void balance_experts(const ServeOptions& options, const WorkerPlace& place,
                     const ModelConfig& config, const Model& model, ExpertExchange& experts) {
  const ExpertBalancingOptions& balancing = options.parallel.expert_balancing;
  if (!balancing.is_on || model.mixture_layer_count() == 0) return;
  experts.balance({.layer_count = model.mixture_layer_count(),
                   .expert_count = config.expert_count,
                   .window_size = balancing.window_size,
                   .step_interval = balancing.step_interval,
                   .redundant_count = balancing.redundant_count,
                   .moves_per_step = balancing.moves_per_step,
                   .logs = balancing.logs},
                  expert_home(options, config, place.tp_rank));
}

struct MemoryClaim {
  uint64_t scratch_bytes = 0;
  uint32_t workers = 1;
  bool are_weights_found = false;
};

StatusOr<uint64_t> share_memory(const ServeOptions& options, const DeviceMemory& memory,
                                const MemoryClaim& claim) {
  const uint64_t available = memory.available_bytes;
  TRIREME_ASSIGN_OR_RETURN(const uint64_t kv_bytes,
                           memory.is_own
                               ? device_kv_budget(options.scheduler, available, claim.scratch_bytes)
                               : kv_budget(options.scheduler, available, claim.scratch_bytes,
                                           claim.workers, claim.are_weights_found));
  log::info("memory_budget", {{"available_bytes", available},
                              {"workers", claim.workers},
                              {"scratch_bytes", claim.scratch_bytes},
                              {"kv_bytes_max", kv_bytes}});
  return kv_bytes;
}

// The KV memory of this node's workers is promised, but none of it has been touched yet. Where it
// is a GPU's, the store has the machine's to itself.
WorkerParts::OpenStore store_opener(const SchedulerOptions& options, uint32_t local_workers,
                                    bool is_kv_elsewhere) {
  return [directory = options.kv_offloading_path, local_workers, is_kv_elsewhere](
             uint32_t slot_count, uint64_t slot_bytes, uint64_t kv_bytes) {
    const uint64_t available = available_memory("");
    const uint64_t promised = is_kv_elsewhere ? 0 : kv_bytes * local_workers;
    return open_kv_store({.directory = directory,
                          .slot_count = slot_count,
                          .slot_bytes = slot_bytes,
                          .sharers = local_workers,
                          .memory_available = available - std::min(available, promised)});
  };
}

uint32_t milliseconds_since(Instant begin) {
  const auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(now() - begin);
  return static_cast<uint32_t>(spent.count());
}

}  // namespace

StatusOr<std::unique_ptr<Worker>> Worker::load(const ServeOptions& options,
                                               const WorkerPlace& place,
                                               std::unique_ptr<Collective> tensor_parallel,
                                               const Progress& progress) {
  cpu::CpuFactory factory;
  return load_stage(options, place, {.tensor_parallel = std::move(tensor_parallel)}, factory,
                    progress);
}

StatusOr<std::unique_ptr<Worker>> load_stage(const ServeOptions& options, const WorkerPlace& place,
                                             WorkerLinks links, DeviceFactory& factory,
                                             const Progress& progress) {
  const Instant begin = now();
  links.life.enter(WorkerPhase::kLoading, 0);
  if (links.life.are_seen() && place.tp_size > 1) {
    links.tensor_parallel =
        std::make_unique<WatchedCollective>(std::move(links.tensor_parallel), links.life);
  }
  TRIREME_ASSIGN_OR_RETURN(ModelDirectory directory,
                           ModelDirectory::open(options.model_directory()));
  TRIREME_RETURN_IF_ERROR(check_mesh(options, directory.config(), links));
  auto image = open_weight_image(std::move(links.weights), options, place);
  TRIREME_ASSIGN_OR_RETURN(std::optional<ModelDirectory> draft, open_draft(options, place));
  const LocalWorkers workers =
      local_workers(options, place.tp_rank + place.tp_size * place.pp_rank);
  TRIREME_RETURN_IF_ERROR(factory.open(options, workers));
  TRIREME_ASSIGN_OR_RETURN(const DeviceMemory empty_memory, factory.memory());
  const uint32_t sharers = workers_in(empty_memory, workers);
  TRIREME_ASSIGN_OR_RETURN(
      const WeightBudget weights,
      check_memory(options, place, empty_memory, sharers, directory, draft, image));

  TRIREME_ASSIGN_OR_RETURN(const WorkerCores cores, take_cores(options, place, workers));
  auto foundation =
      std::make_shared<Foundation>(std::move(directory), std::move(draft), cores, std::move(image));
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                           load_main(options, place, links, factory, *foundation, progress));
  if (links.experts != nullptr) {
    balance_experts(options, place, foundation->directory.config(), *model, *links.experts);
  }
  log::info("weights_ready", {{"bytes", model->weight_bytes()},
                              {"memory", sharing_text(weights)},
                              {"milliseconds", milliseconds_since(begin)}});
  std::optional<DraftParts> draft_parts;
  if (has_draft_model(options)) {
    auto loaded = load_draft(options, place, links, factory, *foundation, progress);
    if (!loaded.ok()) return annotate(loaded.status(), "--speculative-config");
    draft_parts = *std::move(loaded);
  }
  TRIREME_ASSIGN_OR_RETURN(const DeviceMemory memory, factory.memory());
  const MemoryClaim claim{.scratch_bytes = scratch_of(options, place, *foundation),
                          .workers = sharers,
                          .are_weights_found = weights.are_there};
  TRIREME_ASSIGN_OR_RETURN(const uint64_t kv_bytes, share_memory(options, memory, claim));
  ThreadPool* pool = &foundation->pool;
  return make_worker({.place = place,
                      .links = std::move(links),
                      .foundation = std::move(foundation),
                      .model = std::move(model),
                      .draft = std::move(draft_parts),
                      .pool = pool,
                      .kv_bytes_max = kv_bytes,
                      .load_milliseconds = milliseconds_since(begin),
                      .open_store = store_opener(options.scheduler, workers.count, memory.is_own)});
}

}  // namespace trireme::worker
