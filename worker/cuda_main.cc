// worker-cuda: one rank's share of an engine's model, on a GPU; started by engine-core in the place
// of `worker` with --device cuda. Built with -DTRIREME_CUDA=ON alone.
#include "worker/cuda_factory.h"
#include "worker/kernels/cuda/cuda_device.h"
#include "worker/worker_main.h"

namespace {

using namespace trireme;
using namespace trireme::worker;

StatusOr<std::unique_ptr<Device>> make_device(const DeviceRequest& request, int ordinal) {
  return cuda::CudaDevice::create(
      {.element = request.element, .on_load = request.on_load, .ordinal = ordinal},
      request.tensor_parallel);
}

}  // namespace

int main(int argc, char** argv) {
  CudaFactory factory([] { return load_cuda_driver(); }, make_device);
  return worker_main("worker-cuda", argc, argv, factory);
}
