// TensorLoader: what the loaders of a decoder's parts share: tensors by their names below a prefix,
// as the architecture stores them, and this rank's slices of them. Threads: one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/device.h"
#include "worker/models/decoder_config.h"
#include "worker/models/decoder_share.h"
#include "worker/models/weight_reader.h"

namespace trireme::worker {

struct NormWeights {
  std::unique_ptr<VectorWeight> weight;  // Null where the architecture has no such norm.
  std::unique_ptr<VectorWeight> bias;    // Null without.

  explicit operator bool() const { return weight != nullptr; }
};

[[nodiscard]] inline uint64_t bytes_of(const auto& weight) {
  return weight == nullptr ? 0 : weight->bytes();
}
[[nodiscard]] inline uint64_t bytes_of(const NormWeights& norm) {
  return bytes_of(norm.weight) + bytes_of(norm.bias);
}
[[nodiscard]] inline uint64_t bytes_of(const ExpertWeights& expert) {
  return bytes_of(expert.gate_up) + bytes_of(expert.down);
}

class TensorLoader {
 public:
  // All outlive the loader.
  TensorLoader(const DecoderConfig& config, const DecoderShare& share, const Safetensors& tensors,
               Device& device, std::string prefix)
      : config_(config),
        sizes_(config.sizes),
        share_(share),
        tensors_(tensors),
        reader_(tensors, config.sizes.quantization),
        device_(device),
        prefix_(std::move(prefix)) {}

 protected:
  // Of the hidden states.
  [[nodiscard]] StatusOr<NormWeights> norm(const std::string& name);
  // One weight for each of `count` columns.
  [[nodiscard]] StatusOr<std::unique_ptr<VectorWeight>> norm_weight(const std::string& name,
                                                                    uint32_t count);
  // The matrix of a linear layer; one that config.json says is quantised must be.
  [[nodiscard]] StatusOr<MatrixSlice> matrix(const std::string& name, uint32_t row_count,
                                             uint32_t column_count) const;
  // Some rows of a matrix over the hidden states as parts of `source`, one after the other.
  [[nodiscard]] Status add_rows(const std::string& name, uint32_t row_count,
                                const std::vector<Range>& ranges, bool bias, LinearSource& source);
  // All of a small matrix over the hidden states, not quantised.
  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> router(const std::string& name,
                                                               uint32_t row_count);
  // Some columns of a matrix that gives hidden states, summed over the ranks.
  [[nodiscard]] StatusOr<std::unique_ptr<LinearWeight>> column_parallel(const std::string& name,
                                                                        uint32_t column_count,
                                                                        Range columns, bool bias,
                                                                        bool is_apart = false);
  // Some columns of an MLP of `size` columns; without `gate` it has none.
  [[nodiscard]] StatusOr<ExpertWeights> mlp(const std::string& gate, const std::string& up,
                                            const std::string& down, uint32_t size, Range mine,
                                            bool bias, bool is_apart = false);

  const DecoderConfig& config_;
  const ModelConfig& sizes_;
  const DecoderShare& share_;
  const Safetensors& tensors_;
  const WeightReader reader_;
  Device& device_;
  const std::string prefix_;
};

}  // namespace trireme::worker
