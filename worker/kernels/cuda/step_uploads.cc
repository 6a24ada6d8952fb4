#include "worker/kernels/cuda/step_uploads.h"

#include <algorithm>

namespace trireme::worker::cuda {
namespace {

// Each array begins so that a kernel may read 16 bytes at once.
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kRegionBytesMin = std::size_t{256} << 10;

}  // namespace

Status StepUploads::restart() {
  std::size_t total = 0;
  for (Region& region : regions_) {
    total += region.device.size();
    region.placed = 0;
    region.sent = 0;
  }
  if (regions_.size() < 2) return absl::OkStatus();
  regions_.clear();
  return add_region(total);
}

Status StepUploads::add_region(std::size_t bytes) {
  Region region;
  TRIREME_ASSIGN_OR_RETURN(region.host, PinnedBuffer::allocate(bytes, "a step's arrays"));
  TRIREME_ASSIGN_OR_RETURN(region.device, DeviceBuffer::allocate(bytes, "a step's arrays"));
  regions_.push_back(std::move(region));
  return absl::OkStatus();
}

StatusOr<StepUploads::Space> StepUploads::take(std::size_t bytes, Queue& queue) {
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (regions_.empty() || regions_.back().placed + rounded > regions_.back().device.size()) {
    send(queue);
    const std::size_t before = regions_.empty() ? 0 : regions_.back().device.size();
    TRIREME_RETURN_IF_ERROR(add_region(std::max({kRegionBytesMin, 2 * before, rounded})));
  }
  Region& region = regions_.back();
  const std::size_t at = region.placed;
  region.placed += rounded;
  return Space{region.host.data() + at, region.device.data() + at};
}

void StepUploads::send(Queue& queue) {
  if (regions_.empty()) return;
  Region& region = regions_.back();
  queue_copy(region.device.data() + region.sent, region.host.data() + region.sent,
             region.placed - region.sent, queue);
  region.sent = region.placed;
}

}  // namespace trireme::worker::cuda
