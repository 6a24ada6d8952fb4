// Goal: no kernel lacks a barrier. Method: the tests of all operators once more, with the last
// thread of each block running first; a kernel that reads what another thread has not written yet
// differs.
#include "worker/kernels/cuda/cuda_device_test.cc"
#include "worker/kernels/cuda/cuda_kernels_test.cc"
#include "worker/kernels/cuda/cuda_quantized_test.cc"

namespace trireme::worker::cuda::on_host {
namespace {

class LastThreadFirst : public testing::Environment {
 public:
  void SetUp() override { BlockRunner::of_this_thread().set_thread_order(ThreadOrder::kBackwards); }
};

const testing::Environment* const kOrder = testing::AddGlobalTestEnvironment(new LastThreadFirst);

}  // namespace
}  // namespace trireme::worker::cuda::on_host
