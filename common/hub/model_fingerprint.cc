#include "common/hub/model_fingerprint.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

namespace trireme::hub {
namespace {

constexpr std::streamoff kTailBytes = 64 * 1024;

// FNV-1a: the same on every machine.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      value_ = (value_ ^ static_cast<uint8_t>(byte)) * 0x100000001B3ULL;
    }
  }
  [[nodiscard]] uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325ULL;
};

StatusOr<std::string> read_whole(const std::string& path) {
  std::ifstream file;
  std::stringstream text;
  // A pipe would be waited for.
  if (std::filesystem::is_regular_file(path)) file.open(path, std::ios::binary);
  if (!file.is_open() || !(text << file.rdbuf())) {
    return error(StatusCode::kNotFound, "%s cannot be read: %s", path, std::strerror(errno));
  }
  return text.str();
}

std::string tail_of(const std::filesystem::path& path, std::streamoff size) {
  std::ifstream file(path, std::ios::binary);
  const std::streamoff count = std::min(size, kTailBytes);
  std::string bytes(static_cast<std::size_t>(count), '\0');
  file.seekg(size - count);
  file.read(bytes.data(), count);
  return bytes;
}

}  // namespace

StatusOr<std::string> model_fingerprint(const std::string& directory) try {
  const std::string path = directory + "/config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string text, read_whole(path));
  const auto architectures = nlohmann::json::parse(text).at("architectures");
  Hash hash;
  hash.add(text);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const auto& file : files) {
    const auto size = static_cast<std::streamoff>(std::filesystem::file_size(file));
    hash.add(file.filename().string());
    hash.add(std::to_string(size));
    hash.add(tail_of(file, size));
  }
  return absl::StrFormat("%s %016x", architectures.at(0).get<std::string>(), hash.value());
} catch (const std::exception& failure) {
  return error(StatusCode::kUnavailable, "%s: %s", directory, failure.what());
}

}  // namespace trireme::hub
