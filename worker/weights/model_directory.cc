#include "worker/weights/model_directory.h"

#include <filesystem>
#include <utility>

namespace trireme::worker {
namespace {

constexpr std::size_t kConfigBytesMax = 4'000'000;

}  // namespace

StatusOr<ModelDirectory> ModelDirectory::open(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::is_directory(path, failure)) {
    const std::string why = failure ? failure.message() : std::string("not a directory");
    return error(StatusCode::kNotFound, "model directory %s: %s", path, why);
  }
  const std::string config_path = path + "/config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string text, read_text_file(config_path, kConfigBytesMax));
  TRIREME_ASSIGN_OR_RETURN(ModelConfig config, parse_model_config(text, config_path));
  TRIREME_ASSIGN_OR_RETURN(Safetensors weights, Safetensors::open_directory(path));
  return ModelDirectory(path, std::move(config), std::move(weights));
}

}  // namespace trireme::worker
