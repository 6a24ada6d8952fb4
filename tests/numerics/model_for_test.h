// A golden model with its expected logits, and the ways to run sequences through a Model.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/numerics/generated_weights_for_test.h"
#include "worker/models/load_model.h"

namespace trireme::worker {

inline const std::filesystem::path kGoldenFolder = "tests/numerics/golden";
inline const std::filesystem::path kGoldenEmbeddingFolder = "tests/numerics/golden_embedding";

[[nodiscard]] inline std::vector<std::string> golden_names(
    const std::filesystem::path& folder = kGoldenFolder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

[[nodiscard]] inline ModelDirectory open_golden(
    const std::string& name, const std::filesystem::path& folder = kGoldenFolder) {
  const std::filesystem::path golden = folder / name;
  // What is open stays mapped without its directory.
  const TestDirectory written;
  std::filesystem::copy_file(golden / "config.json", written.path() + "/config.json");
  write_generated_weights((golden / "weights.txt").string(), written);
  auto directory = ModelDirectory::open(written.path());
  EXPECT_TRUE(directory.ok()) << directory.status();
  return std::move(directory).value();
}

template <typename Value>
[[nodiscard]] std::vector<Value> values_of(const Safetensors& file, std::string_view name) {
  const TensorView* tensor = file.find(name);
  EXPECT_NE(tensor, nullptr) << name;
  std::vector<Value> values(tensor->bytes.size() / sizeof(Value));
  std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
  return values;
}

[[nodiscard]] inline float largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    // A NaN is as far away as can be.
    largest = difference >= largest || std::isnan(difference) ? difference : largest;
  }
  return largest;
}

// One sequence and the part of it that a step computes.
struct SequencePart {
  std::span<const int32_t> tokens;  // Of the whole sequence.
  std::span<const int32_t> blocks;
  uint32_t start = 0;
  uint32_t count = 0;
};

// One step; the logits of all its tokens, part after part.
[[nodiscard]] inline StatusOr<std::vector<float>> run_step(Model& model,
                                                           std::span<const SequencePart> parts,
                                                           std::span<const float> hidden_in = {},
                                                           std::span<float> hidden_out = {}) {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<ForwardRow> rows;
  for (const SequencePart& part : parts) {
    rows.push_back({.token_begin = static_cast<uint32_t>(tokens.size()),
                    .token_count = part.count,
                    .start = part.start,
                    .blocks = part.blocks});
    for (uint32_t i = part.start; i < part.start + part.count; ++i) {
      tokens.push_back(part.tokens[i]);
      positions.push_back(static_cast<int32_t>(i));
    }
  }
  std::vector<uint32_t> wanted(hidden_out.empty() ? tokens.size() : 0);
  std::iota(wanted.begin(), wanted.end(), 0U);
  std::vector<float> logits(wanted.size() * model.vocabulary_size());
  TRIREME_RETURN_IF_ERROR(model.forward(
      {.tokens = tokens, .positions = positions, .rows = rows, .logits_tokens = wanted}, hidden_in,
      hidden_out, logits));
  return logits;
}

// A whole sequence alone, in chunks of chunk_tokens, in blocks 0, 1, 2, ...
[[nodiscard]] inline std::vector<float> run_sequence(Model& model, std::span<const int32_t> tokens,
                                                     uint32_t chunk_tokens) {
  std::vector<int32_t> blocks(tokens.size() / model.kv_shape().block_tokens + 1);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<float> all;
  const auto count = static_cast<uint32_t>(tokens.size());
  for (uint32_t start = 0; start < count; start += chunk_tokens) {
    const SequencePart part{tokens, blocks, start, std::min(chunk_tokens, count - start)};
    const auto logits = run_step(model, std::span(&part, 1));
    EXPECT_TRUE(logits.ok()) << logits.status();
    if (!logits.ok()) return all;
    all.insert(all.end(), logits->begin(), logits->end());
  }
  return all;
}

// A model on its own (one rank, two threads), ready to run.
class SoloModel {
 public:
  SoloModel(const std::string& name, const std::string& dtype, uint32_t block_count,
            const std::string& kv_cache_dtype = "auto")
      : directory_(open_golden(name)) {
    auto model = load_model(directory_, WorkerPlace{},
                            {.dtype = dtype, .kv_cache_dtype = kv_cache_dtype}, solo_, pool_, {});
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = std::move(model).value();
    const Status allocated = model_->allocate_kv(block_count);
    EXPECT_TRUE(allocated.ok()) << allocated;
  }
  [[nodiscard]] Model& operator*() const { return *model_; }
  [[nodiscard]] Model* operator->() const { return model_.get(); }

 private:
  ModelDirectory directory_;
  SoloCollective solo_;
  ThreadPool pool_{2};
  std::unique_ptr<Model> model_;
};

}  // namespace trireme::worker
