#include "engine_core/node_agent/weight_images.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/log.h"
#include "common/shm/shared_image.h"
#include "engine_core/span/worker_span.h"
#include "proto/member/cluster_shape.h"
#include "worker/cpu_binding.h"

namespace trireme::engine {

std::vector<uint32_t> WeightImages::plan(const ServeOptions& options,
                                         const worker::MachineCores& machine) {
  const uint32_t per_rank = worker_span(options).ranks_per_place;
  const uint32_t count = member::local_ranks(options).count * per_rank;
  std::map<std::pair<uint32_t, std::vector<int>>, uint32_t> image_of;
  std::vector<uint32_t> images;
  for (uint32_t index = 0; index < count; ++index) {
    // What is wrong with the flag is for the worker to tell.
    const auto cores =
        worker::cores_of_worker(options.worker.cpu_threads_bind, machine, {index, count})
            .value_or(worker::WorkerCores{});
    const auto key = std::pair(index % per_rank, machine.nodes_of(cores.cpus));
    images.push_back(image_of.emplace(key, image_of.size()).first->second);
  }
  return images;
}

WeightImages WeightImages::create(const ServeOptions& options,
                                  const worker::MachineCores& machine) {
  const Executor executor = options.parallel.executor;
  WeightImages made;
  if (executor != Executor::kAuto && executor != Executor::kMp) return made;
  if (options.worker.device == DeviceKind::kCuda) return made;  // Each GPU has its own.
  made.workers_per_rank_ = worker_span(options).ranks_per_place;
  const std::vector<uint32_t> images = plan(options, machine);
  for (uint32_t image = 0; std::ranges::count(images, image) > 0; ++image) {
    const auto sharers = static_cast<uint32_t>(std::ranges::count(images, image));
    auto fd = shm::SharedImage::create("trireme-weights", sharers);
    if (!fd.ok()) {
      log::info("weights_not_shared", {{"reason", std::string(fd.status().message())}});
      return {};
    }
    made.images_.push_back(*std::move(fd));
  }
  for (const uint32_t image : images) made.fd_of_worker_.push_back(made.images_[image].get());
  return made;
}

void WeightImages::hand_to(process::ChildOptions& child, uint32_t index) const {
  if (fd_of_worker_.empty()) return;
  std::string list;
  for (uint32_t i = 0; i < workers_per_rank_; ++i) {
    const int fd = fd_of_worker_[index * workers_per_rank_ + i];
    absl::StrAppendFormat(&list, "%s%d", i == 0 ? "" : ",", fd);
    child.inherited_fds.push_back(fd);
  }
  child.argv.insert(child.argv.end(), {"--internal-weight-images", list});
}

}  // namespace trireme::engine
