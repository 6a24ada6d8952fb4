// Goal: a worker of a GPU takes the one of its number, knows the memory there, and says in one line
// what it cannot do. The driver is made up and the device is none: there need be no CUDA here.
#include "worker/cuda_factory.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "common/device/made_up_driver_for_test.h"
#include "worker/comm/collective.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/kernels/cpu/quantized_linear.h"
#include "worker/thread_pool.h"

namespace trireme::worker {
namespace {

class CudaFactoryOnMadeUpGpus : public ::testing::Test {
 protected:
  CudaFactoryOnMadeUpGpus() { options_.parallel.data_parallel_size = 2; }

  CudaFactory factory() {
    return CudaFactory([this]() -> StatusOr<CudaDriver> { return made_.driver(); },
                       [this](const DeviceRequest& request, int ordinal) {
                         made_of_ = {request.element, request.on_load, ordinal};
                         return StatusOr<std::unique_ptr<Device>>(nullptr);
                       });
  }
  DeviceRequest request() {
    return {.element = Element::kBfloat16,
            .on_load = cpu::OnLoad::kKeep,
            .cpu_kernels = "auto",
            .tensor_parallel = solo_,
            .pool = pool_,
            .weights = nullptr,
            .experts = nullptr,
            .workers_of_node = 2};
  }

  MadeUpDriver made_{.gpus = {made_up_h100(), made_up_h100()}, .free_bytes = 1000};
  ServeOptions options_;
  SoloCollective solo_;
  ThreadPool pool_{1, {}};
  std::tuple<Element, cpu::OnLoad, int> made_of_{Element::kInt8, cpu::OnLoad::kKeep, -1};
};

TEST_F(CudaFactoryOnMadeUpGpus, worker_takes_the_gpu_of_its_number) {
  CudaFactory second = factory();
  ASSERT_TRUE(second.open(options_, {.index = 1, .count = 2}).ok());
  const auto memory = second.memory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->available_bytes, 1000u);
  EXPECT_TRUE(memory->is_own);
  EXPECT_TRUE(memory->keeps_float8);
  EXPECT_EQ(made_.contexts, std::vector<int>{1});
  DeviceRequest quantises = request();
  quantises.on_load = cpu::OnLoad::kInt8;
  EXPECT_TRUE(second.make(quantises).ok());
  EXPECT_EQ(made_of_, std::tuple(Element::kBfloat16, cpu::OnLoad::kInt8, 1));
}

TEST_F(CudaFactoryOnMadeUpGpus, what_keeps_it_off_is_one_line) {
  made_.gpus = {made_up_h100()};
  const Status few = factory().open(options_, {.index = 0, .count = 2});
  EXPECT_TRUE(std::string(few.message()).starts_with("--device cuda: this node has 2 workers"))
      << few;
  CudaFactory without([] { return StatusOr<CudaDriver>(Status(StatusCode::kNotFound, "no file")); },
                      nullptr);
  EXPECT_EQ(std::string(without.open(options_, {}).message()),
            "--device cuda: no NVIDIA driver (libcuda.so.1) on this machine; install the driver, "
            "or use --device cpu");
}

TEST_F(CudaFactoryOnMadeUpGpus, what_only_the_cpu_does_is_refused) {
  CudaFactory first = factory();
  ASSERT_TRUE(first.open(options_, {.index = 0, .count = 2}).ok());
  const MeshForTest mesh(2);
  const auto exchange = mesh.exchange(0);
  DeviceRequest divides = request();
  divides.experts = exchange.get();
  EXPECT_TRUE(std::string(first.make(divides).status().message())
                  .starts_with("--enable-expert-parallel: "));
}

}  // namespace
}  // namespace trireme::worker
