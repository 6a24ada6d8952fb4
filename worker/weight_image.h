// Opens the image of a worker's weights that the workers of a node share
// (common/shm/shared_image.h).
#pragma once

#include <optional>

#include "common/options/serve_options.h"
#include "common/shm/shared_image.h"
#include "common/unique_fd.h"
#include "worker/worker.h"

namespace trireme::worker {

// Of all that decides the bytes: model, flags, place, this machine's kernels and this very program
// (a new one may pack in another way).
[[nodiscard]] uint64_t weight_digest(const ServeOptions& options, const WorkerPlace& place);

// Waits while another worker makes it. Nothing, and a line in the log, where it cannot be used;
// nothing where there is no descriptor.
[[nodiscard]] std::optional<shm::SharedImage> open_weight_image(UniqueFd fd,
                                                                const ServeOptions& options,
                                                                const WorkerPlace& place);

}  // namespace trireme::worker
