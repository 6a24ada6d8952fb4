// Weights in device memory, and how they get there: rows of the checkpoint become numbers of the
// device's element or codes in pinned memory, one half of it while the other half is copied.
// Threads: the device's.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "worker/device.h"
#include "worker/kernels/cpu/quantized_linear.h"
#include "worker/kernels/cuda/matrix_products.h"
#include "worker/kernels/cuda/runtime.h"
#include "worker/kernels/cuda/table_rows.h"

namespace trireme::worker::cuda {

class CudaLinear final : public LinearWeight {
 public:
  // Everything beside the values, each in a buffer of its own; empty where there is none.
  struct Beside {
    DeviceBuffer bias;
    DeviceBuffer scales;
    DeviceBuffer zeros;
    DeviceBuffer column_order;

    [[nodiscard]] uint64_t bytes() const {
      return bias.size() + scales.size() + zeros.size() + column_order.size();
    }
  };

  // matrix: all but what the buffers hold.
  CudaLinear(DeviceBuffer values, Beside beside, const WeightMatrix& matrix);
  [[nodiscard]] uint32_t out_features() const override { return matrix_.out_features; }
  [[nodiscard]] uint32_t in_features() const override { return matrix_.in_features; }
  [[nodiscard]] uint64_t bytes() const override { return values_->size() + beside_.bytes(); }
  [[nodiscard]] const WeightMatrix& matrix() const { return matrix_; }
  [[nodiscard]] const std::shared_ptr<const DeviceBuffer>& values() const { return values_; }

 private:
  std::shared_ptr<const DeviceBuffer> values_;  // A tied embedding has them too.
  Beside beside_;
  WeightMatrix matrix_;
};

class CudaVector final : public VectorWeight {
 public:
  explicit CudaVector(DeviceBuffer values) : values_(std::move(values)) {}
  [[nodiscard]] uint64_t bytes() const override { return values_.size(); }
  [[nodiscard]] const float* data() const { return reinterpret_cast<const float*>(values_.data()); }

 private:
  DeviceBuffer values_;
};

class CudaTable final : public EmbeddingWeight {
 public:
  // own_bytes: 0 where a matrix counts them.
  CudaTable(std::shared_ptr<const DeviceBuffer> values, const TableRows& rows, uint64_t own_bytes)
      : values_(std::move(values)), rows_(rows), own_bytes_(own_bytes) {}
  [[nodiscard]] uint64_t bytes() const override { return own_bytes_; }
  [[nodiscard]] const TableRows& rows() const { return rows_; }

 private:
  std::shared_ptr<const DeviceBuffer> values_;
  TableRows rows_;
  uint64_t own_bytes_;
};

class WeightUploader {
 public:
  // element: of matrices and tables, kFloat32, kBfloat16 or kFloat16; the values of vectors are
  // rounded to it and kept in fp32. on_load: what matrices of plain numbers become. The stream
  // outlives the uploader.
  [[nodiscard]] static StatusOr<WeightUploader> create(Element element, cpu::OnLoad on_load,
                                                       Stream& stream);

  // What is quantised stays so; parts that are stacked and quantised in different ways are decoded.
  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> linear(const LinearSource& source);
  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> vector(const VectorSource& source);
  // kUnimplemented for one that is quantised.
  [[nodiscard]] StatusOr<std::unique_ptr<EmbeddingWeight>> table(const MatrixSlice& table);

 private:
  struct Half {
    PinnedBuffer memory;
    Event is_free;
  };

  WeightUploader(Element element, cpu::OnLoad on_load, Stream& stream)
      : element_(element), on_load_(on_load), stream_(&stream) {}
  using WriteRow = std::function<void(uint32_t row, std::byte* to)>;
  // row_count rows as write_row has them. Returns when they are there.
  [[nodiscard]] StatusOr<DeviceBuffer> upload_rows(uint32_t row_count, std::size_t row_bytes,
                                                   const WriteRow& write_row,
                                                   const std::string& what);
  // All rows of all parts in the device's element, then rows of zeros up to row_count.
  [[nodiscard]] StatusOr<DeviceBuffer> upload(const std::vector<MatrixSlice>& parts,
                                              uint32_t row_count, const std::string& what);
  template <typename Value>
  [[nodiscard]] StatusOr<DeviceBuffer> upload_values(const std::vector<Value>& values,
                                                     const std::string& what);
  [[nodiscard]] StatusOr<DeviceBuffer> upload_biases(const LinearSource& source,
                                                     uint32_t out_features);
  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> coded(const LinearSource& source,
                                                              WeightForm form);
  [[nodiscard]] StatusOr<Half*> next_half(std::size_t bytes);

  Element element_;
  cpu::OnLoad on_load_;
  Stream* stream_;
  std::array<Half, 2> halves_;
  uint32_t next_ = 0;
};

}  // namespace trireme::worker::cuda
