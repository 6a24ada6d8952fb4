// Goal: the emulated runtime is as late as a GPU may be, and its failures stay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "worker/kernels/cuda/launch.h"
#include "worker/kernels/cuda/runtime.h"

namespace trireme::worker::cuda {
namespace {

using testing::HasSubstr;

__global__ void write_index(uint32_t* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 7; }

__global__ void never_meet() {
  if (threadIdx.x > 0) __syncthreads();
}

__global__ void use_shared(uint32_t last) { dynamic_shared<char>()[last] = 1; }

class CudaOnHost : public testing::Test {
 protected:
  void SetUp() override {
    auto stream = Stream::create();
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = std::make_unique<Stream>(std::move(stream).value());
  }
  void TearDown() override { on_host::forget_failures(); }
  [[nodiscard]] Queue& queue() { return stream_->queue(); }

  std::unique_ptr<Stream> stream_;
};

TEST_F(CudaOnHost, nothing_happens_before_somebody_waits) {
  const auto memory = DeviceBuffer::allocate(64, "a test");
  ASSERT_TRUE(memory.ok());
  std::vector<uint32_t> host(16);
  launch(write_index, dim3{2}, dim3{8}, 0, queue(), reinterpret_cast<uint32_t*>(memory->data()));
  queue_copy(host.data(), memory->data(), 64, queue());
  EXPECT_THAT(host, testing::Each(0));
  EXPECT_TRUE(stream_->wait().ok());
  EXPECT_THAT(host, testing::Each(7));
}

TEST_F(CudaOnHost, an_event_waits_for_what_was_queued_before_it_and_for_no_more) {
  auto event = Event::create();
  ASSERT_TRUE(event.ok());
  uint32_t first = 0;
  uint32_t second = 0;
  const uint32_t one = 1;
  queue_copy(&first, &one, sizeof(one), queue());
  event->record(queue());
  queue_copy(&second, &one, sizeof(one), queue());
  EXPECT_TRUE(event->wait().ok());
  EXPECT_EQ(first, 1U);
  EXPECT_EQ(second, 0U);
  EXPECT_TRUE(stream_->wait().ok());
  EXPECT_EQ(second, 1U);
}

TEST_F(CudaOnHost, freeing_memory_waits_for_what_uses_it) {
  uint32_t host = 0;
  {
    auto memory = DeviceBuffer::allocate(sizeof(host), "a test");
    ASSERT_TRUE(memory.ok());
    queue_zeros(memory->data(), sizeof(host), queue());
    launch(write_index, dim3{1}, dim3{1}, 0, queue(), reinterpret_cast<uint32_t*>(memory->data()));
    queue_copy(&host, memory->data(), sizeof(host), queue());
  }
  EXPECT_EQ(host, 7U);
}

TEST_F(CudaOnHost, a_kernel_that_is_stuck_is_an_error_of_the_wait_and_stays_one) {
  launch(never_meet, dim3{1}, dim3{32}, 0, queue());
  const Status failed = stream_->wait();
  EXPECT_EQ(failed.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.message()), HasSubstr("cudaErrorLaunchFailure"));
  EXPECT_THAT(std::string(failed.message()), HasSubstr("thread (0, 0, 0) has ended"));
  queue().forget();
  EXPECT_FALSE(stream_->wait().ok());
  on_host::forget_failures();
  queue().forget();
  EXPECT_TRUE(stream_->wait().ok());
}

TEST_F(CudaOnHost, more_shared_memory_than_every_gpu_has_is_refused) {
  launch(use_shared, dim3{1}, dim3{1}, std::size_t{99} << 10, queue(), (99U << 10) - 1);
  EXPECT_TRUE(stream_->wait().ok());
  launch(use_shared, dim3{1}, dim3{1}, std::size_t{100} << 10, queue(), 0U);
  EXPECT_THAT(std::string(stream_->wait().message()), HasSubstr("cudaErrorInvalidValue"));
}

TEST_F(CudaOnHost, memory_that_is_not_there_is_exhausted_and_says_what_for) {
  const auto memory = DeviceBuffer::allocate(std::size_t{1} << 40, "the KV cache");
  EXPECT_EQ(memory.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(memory.status().message()),
              HasSubstr("the KV cache: 1048576.0 MiB of GPU memory, 131072.0 MiB are free"));
}

TEST_F(CudaOnHost, a_gpu_that_is_not_there_is_refused_with_what_to_do) {
  EXPECT_TRUE(choose_gpu(0).ok());
  const Status refused = choose_gpu(3);
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("there is no GPU 3"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--device cpu"));
}

}  // namespace
}  // namespace trireme::worker::cuda
