// Model directories of a known model's shape with random weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"
#include "worker/thread_pool.h"

namespace trireme::bench {

struct ModelShape {
  std::string_view name;
  std::string_view architecture;
  uint32_t layers;
  uint32_t hidden;
  uint32_t heads;
  uint32_t kv_heads;
  uint32_t intermediate;
  uint32_t vocabulary;
  bool is_tied;
  bool has_qkv_bias;

  [[nodiscard]] uint32_t head_size() const { return hidden / heads; }
  // Of the matrices that every token goes through, and of the head.
  [[nodiscard]] uint64_t layer_weights() const;
  [[nodiscard]] uint64_t head_weights() const { return uint64_t{vocabulary} * hidden; }
};

inline constexpr ModelShape kQwen05{
    "qwen05", "Qwen2ForCausalLM", 24, 896, 14, 2, 4864, 151936, true, true};
inline constexpr ModelShape kTiny11{"tl11", "LlamaForCausalLM", 22, 2048, 32, 4, 5632, 32000, false,
                                    false};
inline constexpr ModelShape kLlama8{
    "llama8", "LlamaForCausalLM", 32, 4096, 32, 8, 14336, 128256, false, false};
// Of the demo model's vocabulary, so that any answer is text of its tokenizer.
inline constexpr ModelShape kToy{"toy", "LlamaForCausalLM", 2, 128, 4, 2, 256, 2048, false, false};

// kFp8: the layers' matrices as e4m3 with one scale each, all else bf16.
enum class WeightFormat : uint8_t { kBf16, kFp8 };

// config.json and model.safetensors, into a directory that is there. The room is taken first: a
// full disk is an error.
[[nodiscard]] Status write_random_model(const ModelShape& shape, WeightFormat format,
                                        const std::string& directory, worker::ThreadPool& pool);

// One of bf16 in memory (/dev/shm), gone with its owner; of one that was killed, with the next.
class RandomModelDirectory {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<RandomModelDirectory>> make(
      const ModelShape& shape, worker::ThreadPool& pool);
  ~RandomModelDirectory();
  RandomModelDirectory(const RandomModelDirectory&) = delete;
  RandomModelDirectory& operator=(const RandomModelDirectory&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  explicit RandomModelDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace trireme::bench
