#include "common/hub/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>

namespace trireme::hub {
namespace {

namespace fs = std::filesystem;

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool is_complete(const fs::path& snapshot) {
  std::error_code code;
  if (!fs::exists(snapshot / "config.json", code)) return false;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(snapshot, code)) {
    if (!fs::exists(entry.path(), code)) return false;
  }
  return !code;
}

}  // namespace

bool looks_like_hub_id(std::string_view text) {
  if (text.empty() || text.size() > 96 || text.front() == '.' || text.front() == '-') return false;
  if (text.find("..") != text.npos || text.find("--") != text.npos) return false;
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  };
  return std::all_of(text.begin(), text.end(), allowed) &&
         std::count(text.begin(), text.end(), '/') <= 1 && text.front() != '/' &&
         text.back() != '/';
}

StatusOr<fs::path> cache_directory_from_environment() {
  if (const auto cache = environment("HF_HUB_CACHE"); !cache.empty()) return fs::path(cache);
  if (const auto home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const auto xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) {
    return fs::path(xdg) / "huggingface" / "hub";
  }
  if (const auto home = environment("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "huggingface" / "hub";
  }
  return error(StatusCode::kFailedPrecondition, "none of HF_HUB_CACHE, HF_HOME, HOME is set");
}

HubCache::HubCache(fs::path cache, std::string_view id) {
  std::string folder = "models--";
  for (const char c : id) folder += c == '/' ? std::string("--") : std::string(1, c);
  root_ = std::move(cache) / folder;
}

fs::path HubCache::snapshot(std::string_view commit) const { return root_ / "snapshots" / commit; }
fs::path HubCache::blob(std::string_view etag) const { return root_ / "blobs" / etag; }
fs::path HubCache::ref(std::string_view revision) const { return root_ / "refs" / revision; }

std::optional<fs::path> HubCache::find(std::string_view revision) const {
  std::string commit(revision);
  if (std::ifstream file(ref(revision)); file) file >> commit;
  const fs::path path = snapshot(commit);
  if (commit.empty() || !is_complete(path)) return std::nullopt;
  return path;
}

}  // namespace trireme::hub
