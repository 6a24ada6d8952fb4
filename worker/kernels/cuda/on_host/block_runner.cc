#include "worker/kernels/cuda/on_host/block_runner.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"

constinit thread_local trireme::worker::cuda::on_host::Index3 threadIdx;
constinit thread_local trireme::worker::cuda::on_host::Index3 blockIdx;
constinit thread_local trireme::worker::cuda::on_host::Index3 blockDim;
constinit thread_local trireme::worker::cuda::on_host::Index3 gridDim;

namespace trireme::worker::cuda::on_host {
namespace {

std::string text_of(const Index3& index) {
  return absl::StrFormat("(%u, %u, %u)", index.x, index.y, index.z);
}

std::string check_sizes(const BlockRunner::Grid& grid) {
  constexpr uint32_t kGridMax = 65535;  // Of y and z.
  const uint64_t threads = uint64_t{grid.threads.x} * grid.threads.y * grid.threads.z;
  if (threads == 0 || threads > kBlockThreadsMax) {
    return absl::StrFormat("a block of %u threads: a GPU takes 1 to %u", threads, kBlockThreadsMax);
  }
  const Index3& blocks = grid.blocks;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.y > kGridMax ||
      blocks.z > kGridMax) {
    return absl::StrFormat("a grid of %s blocks: a GPU takes 1 to %u in y and z", text_of(blocks),
                           kGridMax);
  }
  return {};
}

}  // namespace

BlockRunner& BlockRunner::of_this_thread() {
  static thread_local BlockRunner runner;
  return runner;
}

std::string BlockRunner::run(const Grid& grid, const std::function<void()>& kernel) {
  if (std::string wrong = check_sizes(grid); !wrong.empty()) return wrong;
  blockDim = grid.threads;
  gridDim = grid.blocks;
  for (uint32_t z = 0; z < grid.blocks.z; ++z) {
    for (uint32_t y = 0; y < grid.blocks.y; ++y) {
      for (uint32_t x = 0; x < grid.blocks.x; ++x) {
        blockIdx = {x, y, z};
        begin_block(grid, kernel);
        const std::string wrong = run_block();
        if (wrong.empty()) continue;
        threads_.clear();  // They wait for ever.
        return absl::StrFormat("block %s: %s", text_of(blockIdx), wrong);
      }
    }
  }
  return {};
}

void BlockRunner::begin_block(const Grid& grid, const std::function<void()>& kernel) {
  // Exactly as large as asked for, so that the address sanitizer sees what is beyond. Bytes of 0xff
  // are NaN as fp32, bf16 and fp16.
  shared_ = std::make_unique_for_overwrite<std::byte[]>(grid.shared_bytes);
  std::memset(shared_.get(), 0xff, grid.shared_bytes);
  const Index3& size = grid.threads;
  thread_count_ = std::size_t{size.x} * size.y * size.z;
  while (threads_.size() < thread_count_) threads_.push_back(std::make_unique<Thread>());
  for (uint32_t i = 0; i < thread_count_; ++i) {
    Thread& thread = *threads_[i];
    thread.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread.has_ended = false;
    thread.wait = Wait::kNone;
    thread.fiber.start(kernel);
  }
}

std::string BlockRunner::run_block() {
  for (;;) {
    run_threads();
    const bool is_over =
        std::all_of(threads_.begin(), threads_.begin() + std::ptrdiff_t(thread_count_),
                    [](const auto& thread) { return thread->has_ended; });
    if (is_over) return {};
    const bool some_warp = release_warps();
    if (!some_warp && !release_block()) return why_stuck();
  }
}

void BlockRunner::run_threads() {
  for (std::size_t i = 0; i < thread_count_; ++i) {
    current_ = order_ == ThreadOrder::kForwards ? i : thread_count_ - 1 - i;
    Thread& thread = *threads_[current_];
    if (thread.has_ended || thread.wait != Wait::kNone) continue;
    threadIdx = thread.index;
    thread.fiber.resume();
    thread.has_ended = thread.fiber.is_done();
  }
}

bool BlockRunner::release_warps() {
  bool some = false;
  for (uint32_t first = 0; first < thread_count_; first += kWarpThreads) {
    some = release_warp(first) || some;
  }
  return some;
}

bool BlockRunner::is_complete(const Thread& waiting, uint32_t first) const {
  for (uint32_t lane = 0; lane < kWarpThreads; ++lane) {
    if ((waiting.lanes >> lane & 1U) == 0) continue;
    if (first + lane >= thread_count_) return false;
    const Thread& other = *threads_[first + lane];
    if (other.has_ended || other.wait != Wait::kWarp || other.lanes != waiting.lanes ||
        other.place != waiting.place) {
      return false;
    }
  }
  return true;
}

bool BlockRunner::release_warp(uint32_t first) {
  bool some = false;
  for (uint32_t lane = 0; lane < kWarpThreads && first + lane < thread_count_; ++lane) {
    const Thread& waiting = *threads_[first + lane];
    if (waiting.wait != Wait::kWarp || !is_complete(waiting, first)) continue;
    const uint32_t lanes = waiting.lanes;
    // All receive before the first goes on and gives its next value.
    for (uint32_t i = 0; i < kWarpThreads; ++i) {
      if ((lanes >> i & 1U) == 0) continue;
      Thread& thread = *threads_[first + i];
      const uint32_t source = thread.source % kWarpThreads;
      // What a lane outside of the exchange would give is not defined.
      thread.received =
          (lanes >> source & 1U) != 0 ? threads_[first + source]->value : ~uint64_t{0};
      thread.wait = Wait::kNone;
    }
    some = true;
  }
  return some;
}

bool BlockRunner::release_block() {
  for (std::size_t i = 0; i < thread_count_; ++i) {
    const Thread& thread = *threads_[i];
    if (thread.has_ended || thread.wait != Wait::kBlock || thread.place != threads_[0]->place) {
      return false;
    }
  }
  for (std::size_t i = 0; i < thread_count_; ++i) threads_[i]->wait = Wait::kNone;
  return true;
}

std::string BlockRunner::where(std::size_t thread) const {
  const Thread& at = *threads_[thread];
  if (at.has_ended) return absl::StrFormat("thread %s has ended", text_of(at.index));
  return absl::StrFormat("thread %s waits %s at %s:%d", text_of(at.index),
                         at.wait == Wait::kBlock ? "for its block" : "for its warp", at.place.file,
                         at.place.line);
}

std::string BlockRunner::why_stuck() const {
  std::size_t waiting = 0;
  while (threads_[waiting]->has_ended) ++waiting;
  const Thread& thread = *threads_[waiting];
  for (std::size_t i = 0; i < thread_count_; ++i) {
    const Thread& other = *threads_[i];
    const bool is_in_same = !other.has_ended && other.wait == thread.wait &&
                            other.place == thread.place && other.lanes == thread.lanes;
    const bool is_wanted =
        thread.wait == Wait::kBlock || (i / kWarpThreads == waiting / kWarpThreads &&
                                        (thread.lanes >> i % kWarpThreads & 1U) != 0);
    if (is_wanted && !is_in_same) return where(waiting) + ", but " + where(i);
  }
  return where(waiting) + ", whose last warp is not whole";
}

void BlockRunner::pause_current() {
  Thread& thread = *threads_[current_];
  thread.fiber.pause();
}

void BlockRunner::wait_for_block(Place place) {
  Thread& thread = *threads_[current_];
  thread.wait = Wait::kBlock;
  thread.place = place;
  thread.lanes = 0;
  pause_current();
}

uint64_t BlockRunner::exchange(uint32_t lanes, uint64_t value, uint32_t source, Place place) {
  Thread& thread = *threads_[current_];
  thread.wait = Wait::kWarp;
  thread.place = place;
  thread.lanes = lanes;
  thread.value = value;
  thread.source = source;
  pause_current();
  return thread.received;
}

}  // namespace trireme::worker::cuda::on_host
