#include "common/hub/resolve_model.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "common/clock.h"
#include "common/hub/hub_cache.h"
#include "common/hub/hub_download.h"

namespace trireme::hub {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// A line that is rewritten on a terminal, and one line per file elsewhere.
class ProgressLine {
 public:
  void show(const DownloadProgress& p) {
    if (p.pause_seconds > 0) {
      std::fprintf(stderr, "  the hub asks to slow down (429): going on in %u s\n",
                   p.pause_seconds);
      return;
    }
    const bool is_done = p.bytes_total > 0 && p.bytes_done >= p.bytes_total;
    if (!is_done && now() < next_) return;
    next_ = now() + std::chrono::milliseconds(is_terminal_ ? 100 : 5000);
    const double done = static_cast<double>(p.bytes_done) / 1e6;
    const double total = static_cast<double>(p.bytes_total) / 1e6;
    std::fprintf(stderr, "%s  [%u/%u] %-40s %8.1f of %.1f MB%s", is_terminal_ ? "\r" : "",
                 p.file_number, p.file_count, p.file.c_str(), done, total,
                 is_terminal_ && !is_done ? "" : "\n");
  }

 private:
  bool is_terminal_ = isatty(STDERR_FILENO) == 1;
  Instant next_{};
};

// Each file is read by several processes, to its end: of a pipe that would be never.
Status check_files(const fs::path& directory) {
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code)) {
    std::error_code ignored;
    const fs::file_status status = entry.status(ignored);
    if (status.type() == fs::file_type::regular || status.type() == fs::file_type::directory ||
        !fs::exists(status)) {
      continue;
    }
    return error(StatusCode::kInvalidArgument, "model file %s is not a regular file",
                 entry.path().string());
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<fs::path> resolve_model(const ModelOptions& options) {
  const std::string& model = options.model;
  if (model.empty()) {
    return error(StatusCode::kInvalidArgument, "no model given: name a directory or a hub id");
  }
  std::error_code code;
  if (fs::is_directory(model, code)) {
    TRIREME_RETURN_IF_ERROR(check_files(model));
    return fs::canonical(model);
  }
  if (fs::exists(model, code)) {
    return error(StatusCode::kInvalidArgument, "model '%s' is a file; its directory is wanted",
                 model);
  }
  if (!looks_like_hub_id(model)) {
    return error(StatusCode::kNotFound, "model '%s': there is no such directory", model);
  }
  fs::path cache_root = options.download_dir;
  if (cache_root.empty()) {
    TRIREME_ASSIGN_OR_RETURN(cache_root, cache_directory_from_environment());
  }
  const std::string revision = options.revision.empty() ? "main" : options.revision;
  if (const auto found = HubCache(cache_root, model).find(revision)) return *found;
  if (environment("HF_HUB_OFFLINE", "0") != "0") {
    return error(StatusCode::kNotFound,
                 "model '%s' is neither a directory nor in %s, and HF_HUB_OFFLINE is set", model,
                 cache_root.string());
  }
  const DownloadSource source{.endpoint = environment("HF_ENDPOINT", "https://huggingface.co"),
                              .token = environment("HF_TOKEN", ""),
                              .id = model,
                              .revision = revision};
  std::fprintf(stderr, "downloading %s from %s\n", model.c_str(), source.endpoint.c_str());
  ProgressLine line;
  auto snapshot = download_model(source, cache_root, [&](const auto& p) { line.show(p); });
  if (!snapshot.ok()) {
    return annotate(
        snapshot.status(),
        absl::StrFormat("model '%s' is no directory here and could not be downloaded", model));
  }
  return snapshot;
}

StatusOr<fs::path> resolve_draft_model(const ServeOptions& options) {
  const SpeculationOptions& speculation = options.scheduler.speculation;
  if (!speculation.has_draft_model()) return fs::path();
  ModelOptions draft;
  draft.model = speculation.model;
  draft.revision = speculation.revision;
  draft.download_dir = options.model.download_dir;
  auto found = resolve_model(draft);
  if (!found.ok()) return annotate(found.status(), "--speculative-config");
  return found;
}

}  // namespace trireme::hub
