// Golden models of tests/numerics on a CudaDevice, and what they shall give.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/numerics/model_for_test.h"
#include "worker/kernels/cuda/cuda_device.h"
#include "worker/models/registry.h"

namespace trireme::worker {

inline constexpr uint32_t kCudaModelBlocks = 8;

struct Choice {
  Element element = Element::kFloat32;
  cpu::OnLoad on_load = cpu::OnLoad::kKeep;
  bool has_int8_kv = false;  // Else that of the element.
  std::filesystem::path folder = kGoldenFolder;
  bool wants_logits = true;
  WorkerPlace place = {};
  Collective* collective = nullptr;  // Null: a group of one.
};

// A golden model on a GPU.
class CudaModel {
 public:
  explicit CudaModel(const std::string& name, const Choice& choice = {})
      : CudaModel(open_golden(name, choice.folder), choice) {}
  explicit CudaModel(ModelDirectory directory, const Choice& choice = {})
      : directory_(std::move(directory)), place_(choice.place), model_(load(choice)) {}

  [[nodiscard]] const Status& status() const { return model_.status(); }
  [[nodiscard]] Model& operator*() const { return **model_; }
  [[nodiscard]] Model* operator->() const { return model_->get(); }

 private:
  [[nodiscard]] StatusOr<std::unique_ptr<Model>> load(const Choice& choice) {
    TRIREME_ASSIGN_OR_RETURN(const ModelFactory factory,
                             find_model_factory(directory_.config().architecture));
    Collective& collective = choice.collective == nullptr ? solo_ : *choice.collective;
    TRIREME_ASSIGN_OR_RETURN(
        auto device, cuda::CudaDevice::create(
                         {.element = choice.element, .on_load = choice.on_load}, collective));
    TRIREME_ASSIGN_OR_RETURN(
        auto model, factory({.directory = directory_,
                             .place = place_,
                             .element = choice.element,
                             .kv_element = choice.has_int8_kv ? Element::kInt8 : choice.element,
                             .block_tokens = 16,
                             .device = std::move(device),
                             .progress = progress_,
                             .wants_logits = choice.wants_logits}));
    TRIREME_RETURN_IF_ERROR(model->allocate_kv(kCudaModelBlocks));
    return model;
  }

  ModelDirectory directory_;
  WorkerPlace place_;
  SoloCollective solo_;
  Progress progress_;
  StatusOr<std::unique_ptr<Model>> model_;
};

struct Expected {
  std::vector<int32_t> tokens;
  std::vector<float> values;
  float bf16_error = 0;
};

// values: "logits" or "states".
[[nodiscard]] inline Expected expected_of(const std::string& name,
                                          const std::filesystem::path& folder = kGoldenFolder,
                                          const std::string& values = "logits") {
  auto file = Safetensors::open_file((folder / name / "expected.safetensors").string());
  EXPECT_TRUE(file.ok()) << file.status();
  return {values_of<int32_t>(*file, "tokens"), values_of<float>(*file, values),
          values_of<float>(*file, "bf16_error")[0]};
}

[[nodiscard]] inline float largest_of(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

}  // namespace trireme::worker
