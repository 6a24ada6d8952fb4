// The CPU's forms of weights: matrices packed into panels, vectors as fp32, the embedding table as
// rows of the packed head or as it lies in the checkpoint. Threads: const after loading.
#pragma once

#include <span>

#include "worker/device.h"
#include "worker/kernels/cpu/host_memory.h"
#include "worker/kernels/cpu/packed_linear.h"
#include "worker/thread_pool.h"

namespace trireme::worker::cpu {

// element is kFloat32 or kBfloat16: the parts are converted to it. What a weight consists of lies
// in `memory`, which outlives it; where that is filled already nothing is computed.
[[nodiscard]] StatusOr<std::unique_ptr<PackedLinear>> pack_linear(const LinearSource& source,
                                                                  Element element, ThreadPool& pool,
                                                                  HostArena& memory);

// As values of `element`, padded to whole panels; empty without biases.
[[nodiscard]] StatusOr<std::span<const float>> packed_biases(const LinearSource& source,
                                                             Element element, HostArena& memory);

class FloatVector final : public VectorWeight {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<FloatVector>> load(const VectorSource& source,
                                                                   Element element,
                                                                   HostArena& memory);
  explicit FloatVector(std::span<const float> values) : values_(values) {}
  [[nodiscard]] uint64_t bytes() const override { return 4 * values_.size(); }
  [[nodiscard]] const float* data() const { return values_.data(); }
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(values_.size()); }

 private:
  std::span<const float> values_;
};

// Every table of a CpuDevice.
class EmbeddingRows : public EmbeddingWeight {
 public:
  // A row out of range gives zeros.
  virtual void read_row(uint32_t row, float* out) const = 0;
};

class MappedEmbedding final : public EmbeddingRows {
 public:
  MappedEmbedding(const MatrixSlice& table, Element element) : table_(table), element_(element) {}
  [[nodiscard]] uint64_t bytes() const override { return 0; }  // The page cache's, not ours.
  void read_row(uint32_t row, float* out) const override;

 private:
  MatrixSlice table_;
  Element element_;
};

// The rows of a matrix that pack_linear() made, bit for bit those of the MappedEmbedding of its
// source.
class PackedEmbedding final : public EmbeddingRows {
 public:
  // Of the memory of the matrix, not of the LinearWeight.
  explicit PackedEmbedding(const PackedMatrix& matrix) : matrix_(matrix) {}
  [[nodiscard]] uint64_t bytes() const override { return 0; }  // The matrix counts them.
  void read_row(uint32_t row, float* out) const override;

 private:
  PackedMatrix matrix_;
};

}  // namespace trireme::worker::cpu
