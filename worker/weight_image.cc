#include "worker/weight_image.h"

#include <sys/stat.h>

#include <utility>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/hub/model_fingerprint.h"
#include "common/log.h"
#include "common/options/pooler.h"
#include "proto/member/cluster_shape.h"
#include "worker/kernels/cpu/kernel_choice.h"

namespace trireme::worker {
namespace {

std::string program_text() {
  struct stat program {};
  if (::stat("/proc/self/exe", &program) != 0) return "unknown";
  return absl::StrFormat("%u %u %d.%09d", program.st_ino, program.st_size, program.st_mtim.tv_sec,
                         program.st_mtim.tv_nsec);
}

}  // namespace

uint64_t weight_digest(const ServeOptions& options, const WorkerPlace& place) {
  // A model that cannot be read is for the loader to tell.
  const std::string model = hub::model_fingerprint(options.model_directory()).value_or("");
  // With experts that are divided over nodes, of which ranks' they are.
  const member::RankRange local = member::local_ranks(options);
  const std::string experts = options.parallel.expert_parallel
                                  ? absl::StrFormat("%u+%u/%u", local.first, local.count,
                                                    options.parallel.data_parallel_size)
                                  : "whole";
  const std::string text = absl::StrFormat(
      "%s|%s|%s|%u/%u|%u/%u|%d|%s|%s %s|%s", model, options.model.dtype, options.model.quantization,
      place.tp_rank, place.tp_size, place.pp_rank, place.pp_size, serves_embeddings(options),
      experts, options.worker.cpu_kernels, cpu::best_kernels().name, program_text());
  return XXH3_64bits(text.data(), text.size());
}

std::optional<shm::SharedImage> open_weight_image(UniqueFd fd, const ServeOptions& options,
                                                  const WorkerPlace& place) {
  if (!fd.is_open()) return std::nullopt;
  auto image = shm::SharedImage::open(std::move(fd), weight_digest(options, place), [] {
    log::info("weights_awaited", {{"reason", "another rank of this node loads them for all"}});
  });
  if (image.ok()) return *std::move(image);
  log::warning("weights_not_shared", {{"reason", std::string(image.status().message())}});
  return std::nullopt;
}

}  // namespace trireme::worker
