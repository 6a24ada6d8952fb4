#include "worker/weights/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/weights/safetensors_header.h"

namespace trireme::worker {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::size_t kIndexBytesMax = 64'000'000;

using WeightMap = std::map<std::string, std::string, std::less<>>;  // Tensor -> shard.

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string text_of(std::span<const int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    absl::StrAppendFormat(&out, "%s%d", i == 0 ? "" : ", ", shape[i]);
  }
  return out + "]";
}

StatusOr<WeightMap> read_index(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kIndexBytesMax));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto bad = [&](const std::string& what) {
    return error(StatusCode::kDataLoss, "%s: %s", path, what);
  };
  if (json.is_discarded() || !json.is_object()) return bad("not a JSON object");
  const auto weight_map = json.find("weight_map");
  if (weight_map == json.end() || !weight_map->is_object() || weight_map->empty()) {
    return bad("has no weight_map");
  }
  WeightMap shards;
  for (const auto& [name, shard] : weight_map->items()) {
    if (!shard.is_string()) return bad(absl::StrFormat("tensor \"%s\" has no shard name", name));
    auto file = shard.get<std::string>();
    // A shard lies beside its index; anything else could name any file of the machine.
    if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos) {
      return bad(
          absl::StrFormat("tensor \"%s\" is in \"%s\", which is not a file name", name, file));
    }
    shards.emplace(name, std::move(file));
  }
  return shards;
}

}  // namespace

StatusOr<Safetensors> Safetensors::open_directory(const std::string& directory) {
  const std::string single = directory + "/" + kSingleFile;
  if (exists(single)) return open_file(single);
  if (exists(directory + "/" + kIndexFile)) return open_index(directory);
  const bool has_pickle = exists(directory + "/pytorch_model.bin") ||
                          exists(directory + "/pytorch_model.bin.index.json");
  return error(StatusCode::kNotFound, "%s has neither %s nor %s%s", directory, kSingleFile,
               kIndexFile,
               has_pickle ? "; pytorch_model.bin is not read: convert it to safetensors" : "");
}

StatusOr<Safetensors> Safetensors::open_file(const std::string& path) {
  Safetensors weights;
  TRIREME_RETURN_IF_ERROR(weights.add_file(path, [](std::string_view) { return true; }));
  return weights;
}

template <typename Belongs>
Status Safetensors::add_file(const std::string& path, const Belongs& belongs) {
  TRIREME_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  TRIREME_ASSIGN_OR_RETURN(auto entries, parse_safetensors(file.bytes(), path));
  const auto file_index = static_cast<uint32_t>(files_.size());
  for (SafetensorsEntry& entry : entries) {
    if (!belongs(entry.name)) continue;
    const Place place{static_cast<uint32_t>(tensors_.size()), file_index};
    const auto [it, is_new] = places_.emplace(std::move(entry.name), place);
    if (!is_new) {
      return error(StatusCode::kDataLoss, "tensor \"%s\" is both in %s and in %s", it->first,
                   files_[it->second.file].path(), path);
    }
    byte_count_ += entry.bytes.size();
    tensors_.push_back({it->first, entry.dtype, std::move(entry.shape), entry.bytes});
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

StatusOr<Safetensors> Safetensors::open_index(const std::string& directory) {
  const std::string index_path = directory + "/" + kIndexFile;
  TRIREME_ASSIGN_OR_RETURN(const WeightMap shards, read_index(index_path));
  std::vector<std::string> files;
  for (const auto& [name, shard] : shards) files.push_back(shard);
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());

  Safetensors weights;
  for (const std::string& file : files) {
    std::string stranger;
    // A tensor that the index does not list is not part of the model; one that it lists in another
    // shard would leave open which of two is meant.
    const auto belongs = [&](std::string_view name) {
      const auto it = shards.find(name);
      if (it == shards.end()) return false;
      if (it->second != file) stranger = it->first;
      return true;
    };
    TRIREME_RETURN_IF_ERROR(
        annotate(weights.add_file(directory + "/" + file, belongs), index_path));
    if (!stranger.empty()) {
      return error(StatusCode::kDataLoss,
                   "%s: tensor \"%s\" is listed in shard %s, but shard %s has one too", index_path,
                   stranger, shards.at(stranger), file);
    }
  }
  for (const auto& [name, shard] : shards) {
    if (weights.find(name) == nullptr) {
      return error(StatusCode::kDataLoss, "%s: tensor \"%s\" is listed in shard %s, which lacks it",
                   index_path, name, shard);
    }
  }
  return weights;
}

const TensorView* Safetensors::find(std::string_view name) const {
  const auto it = places_.find(std::string(name));
  return it == places_.end() ? nullptr : &tensors_[it->second.tensor];
}

const std::string& Safetensors::file_of(std::string_view name) const {
  return files_[places_.at(std::string(name)).file].path();
}

void Safetensors::read_through(std::string_view prefix,
                               const std::function<void()>& on_piece) const {
  constexpr std::size_t kPageBytes = 4096;  // Of no machine are they smaller.
  for (const TensorView& tensor : tensors_) {
    if (!tensor.name.starts_with(prefix)) continue;
    for (std::size_t at = 0; at < tensor.bytes.size(); at += kPageBytes) {
      if (at % kPieceBytes == 0) on_piece();
      static_cast<void>(*static_cast<const volatile std::byte*>(&tensor.bytes[at]));
    }
  }
}

StatusOr<TensorView> Safetensors::require(std::string_view name,
                                          std::span<const int64_t> shape) const {
  const TensorView* tensor = find(name);
  if (tensor == nullptr) {
    return error(StatusCode::kNotFound, "tensor \"%s\" is missing in the weights", name);
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    return error(StatusCode::kInvalidArgument,
                 "%s: tensor \"%s\" has shape %s, but config.json makes it %s", file_of(name), name,
                 text_of(tensor->shape), text_of(shape));
  }
  return *tensor;
}

}  // namespace trireme::worker
