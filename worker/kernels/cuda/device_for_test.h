// A CudaDevice whose operators are called on values of the host, and values to call them with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cuda/cuda_device.h"

namespace trireme::worker::cuda {

[[nodiscard]] inline std::vector<float> random_values(std::size_t count, uint64_t seed,
                                                      double spread = 1) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>((random.unit() * 2 - 1) * spread);
  return values;
}

[[nodiscard]] inline MatrixSlice slice_of(std::span<const float> values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  return {values.data(), Element::kFloat32, columns, rows, columns};
}

// Within `tolerance` of the largest that is expected.
inline void expect_close(std::span<const float> got, std::span<const float> expected,
                         float tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  float largest = 1e-3F;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], tolerance * largest) << "at " << i;
  }
}

class TestedDevice {
 public:
  explicit TestedDevice(Element element) {
    auto device = CudaDevice::create({.element = element}, solo_);
    EXPECT_TRUE(device.ok()) << device.status();
    device_ = std::move(device).value();
    device_->begin_step({}, {});
  }
  ~TestedDevice() { EXPECT_TRUE(device_->end_step().ok()); }
  [[nodiscard]] CudaDevice& operator*() const { return *device_; }
  [[nodiscard]] CudaDevice* operator->() const { return device_.get(); }

  // A slot for each.
  [[nodiscard]] View upload(uint32_t slot, std::span<const float> values, uint32_t rows) const {
    const View view = empty(slot, rows, static_cast<uint32_t>(values.size() / rows));
    device_->write_from(values, view);
    return view;
  }
  [[nodiscard]] View empty(uint32_t slot, uint32_t rows, uint32_t columns) const {
    return device_->scratch(slot, rows, columns);
  }
  [[nodiscard]] std::vector<float> values_of(const View& view) const {
    std::vector<float> values(std::size_t{view.row_count} * view.column_count);
    device_->read_back(view, values);
    return values;
  }
  [[nodiscard]] std::unique_ptr<VectorWeight> vector(std::span<const float> values) const {
    auto loaded = device_->load_vector(slice_of(values, 1));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return std::move(loaded).value();
  }
  [[nodiscard]] std::unique_ptr<LinearWeight> linear(std::span<const float> values, uint32_t rows,
                                                     std::span<const float> bias = {}) const {
    LinearSource source{.parts = {slice_of(values, rows)}};
    if (!bias.empty()) source.biases = {slice_of(bias, 1)};
    auto loaded = device_->load_linear(source);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return std::move(loaded).value();
  }

 private:
  SoloCollective solo_;
  std::unique_ptr<CudaDevice> device_;
};

}  // namespace trireme::worker::cuda
