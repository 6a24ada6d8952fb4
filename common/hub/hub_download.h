// Downloads one model of a hub into the cache: only what serving needs (*.safetensors, *.json,
// *.jinja, tokenizer files), each file resumed where an earlier attempt broke off, checked by size
// and, where the hub names a SHA-256, by that. A snapshot appears in the cache only when all of it
// is there. Blocking; one thread; two processes may download the same model (each file is renamed
// into place).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "common/status.h"

namespace trireme::hub {

struct DownloadSource {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT
  std::string token;                                // HF_TOKEN
  std::string id;                                   // org/name
  std::string revision = "main";
};

struct DownloadProgress {
  std::string file;
  uint32_t file_number = 0;  // From 1.
  uint32_t file_count = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;    // Of this file; 0: unknown.
  uint32_t pause_seconds = 0;  // Not 0: nothing comes for so long, as the hub asks.
};
using ProgressSink = std::function<void(const DownloadProgress&)>;

// The snapshot's directory. kNotFound: no such model or revision; kPermissionDenied: it wants a
// token.
[[nodiscard]] StatusOr<std::filesystem::path> download_model(const DownloadSource& source,
                                                             const std::filesystem::path& cache,
                                                             const ProgressSink& progress);

}  // namespace trireme::hub
