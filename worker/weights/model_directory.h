// ModelDirectory: a Hugging Face model directory: config.json and the safetensors weights.
//
// open() reads the configuration and checks every file's header; the weights' bytes are mapped and
// come on first touch. Views live as long as this object. Threads: const after opening, any thread.
#pragma once

#include <string>

#include "common/status.h"
#include "worker/weights/model_config.h"
#include "worker/weights/safetensors.h"

namespace trireme::worker {

class ModelDirectory {
 public:
  // Errors name the file, the field or tensor and the value.
  [[nodiscard]] static StatusOr<ModelDirectory> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const Safetensors& weights() const { return weights_; }

 private:
  ModelDirectory(std::string path, ModelConfig config, Safetensors weights)
      : path_(std::move(path)), config_(std::move(config)), weights_(std::move(weights)) {}

  std::string path_;
  ModelConfig config_;
  Safetensors weights_;
};

}  // namespace trireme::worker
