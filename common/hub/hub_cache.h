// HubCache: where Hugging Face tools keep downloaded models, so that ours and theirs share the
// files.
//
//   <cache>/models--ORG--NAME/refs/REVISION              text: the commit that a branch or tag
//   names
//                            /blobs/ETAG                  file contents
//                            /snapshots/COMMIT/FILE  ->   ../../blobs/ETAG
//   <cache> = HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
//   ~/.cache/huggingface/hub
//
// Source: huggingface.co/docs/huggingface_hub/guides/manage-cache. Reads the file system only.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::hub {

// "org/name" or "name", of the characters that the hub allows; not a path.
[[nodiscard]] bool looks_like_hub_id(std::string_view text);

[[nodiscard]] StatusOr<std::filesystem::path> cache_directory_from_environment();

class HubCache {
 public:
  HubCache(std::filesystem::path cache, std::string_view id);

  [[nodiscard]] std::filesystem::path snapshot(std::string_view commit) const;
  [[nodiscard]] std::filesystem::path blob(std::string_view etag) const;
  [[nodiscard]] std::filesystem::path ref(std::string_view revision) const;
  // The snapshot that `revision` (branch, tag or commit) names in this cache, if it was ever
  // finished: it holds config.json and no file is missing (a link without its blob).
  [[nodiscard]] std::optional<std::filesystem::path> find(std::string_view revision) const;

 private:
  std::filesystem::path root_;
};

}  // namespace trireme::hub
