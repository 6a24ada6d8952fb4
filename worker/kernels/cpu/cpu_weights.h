// The CPU's forms of weights: matrices packed into panels, vectors as fp32, the embedding table as
// it lies in the checkpoint. Threads: const after loading.
#pragma once

#include <vector>

#include "worker/device.h"
#include "worker/kernels/cpu/host_memory.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/thread_pool.h"

namespace trireme::worker::cpu {

class PackedLinear final : public LinearWeight {
 public:
  // element is kFloat32 or kBfloat16: the parts are converted to it. The panels lie in `memory`,
  // which outlives the weight.
  [[nodiscard]] static StatusOr<std::unique_ptr<PackedLinear>> pack(const LinearSource& source,
                                                                    Element element,
                                                                    ThreadPool& pool,
                                                                    HostArena& memory);

  [[nodiscard]] uint32_t out_features() const override { return out_features_; }
  [[nodiscard]] uint32_t in_features() const override { return in_features_; }
  [[nodiscard]] uint64_t bytes() const override {
    return panel_bytes() * panel_count() + 4 * bias_.size();
  }

  [[nodiscard]] Element element() const { return element_; }
  [[nodiscard]] uint32_t panel_count() const;
  [[nodiscard]] uint32_t unit_count() const;  // Along K, see kernel_table.h.
  [[nodiscard]] const void* panels() const { return panels_; }
  [[nodiscard]] const float* bias() const { return bias_.empty() ? nullptr : bias_.data(); }

 private:
  PackedLinear() = default;
  [[nodiscard]] uint64_t panel_bytes() const { return uint64_t{4} * unit_count() * kPanelColumns; }
  void pack_panel(const LinearSource& source, uint32_t panel);
  void pack_biases(const LinearSource& source);

  Element element_ = Element::kFloat32;
  uint32_t out_features_ = 0;
  uint32_t in_features_ = 0;
  std::byte* panels_ = nullptr;
  std::vector<float> bias_;  // Padded to whole panels.
};

class FloatVector final : public VectorWeight {
 public:
  FloatVector(const VectorSource& source, Element element);
  [[nodiscard]] uint64_t bytes() const override { return 4 * values_.size(); }
  [[nodiscard]] const float* data() const { return values_.data(); }
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(values_.size()); }

 private:
  std::vector<float> values_;
};

class MappedEmbedding final : public EmbeddingWeight {
 public:
  MappedEmbedding(const MatrixSlice& table, Element element) : table_(table), element_(element) {}
  [[nodiscard]] uint64_t bytes() const override { return 0; }  // The page cache's, not ours.
  [[nodiscard]] uint32_t row_count() const { return table_.row_count; }
  // A row out of range gives zeros.
  void read_row(uint32_t row, float* out) const;

 private:
  MatrixSlice table_;
  Element element_;
};

}  // namespace trireme::worker::cpu
