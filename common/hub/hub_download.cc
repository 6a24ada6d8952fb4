#include "common/hub/hub_download.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/hub/http_fetch.h"
#include "common/hub/hub_cache.h"
#include "common/hub/patient_fetch.h"

namespace trireme::hub {
namespace {

namespace fs = std::filesystem;

constexpr int kAttemptsMax = 5;
constexpr std::size_t kShownMax = 80;

struct Listing {
  std::string commit;
  std::vector<std::string> files;
};

bool is_needed(std::string_view name) {
  for (const std::string_view suffix : {".safetensors", ".json", ".jinja", ".model", ".txt"}) {
    if (name.ends_with(suffix)) return name.find("..") == name.npos && !name.starts_with('/');
  }
  return false;
}

Status explain_status(uint16_t status, const std::string& what) {
  if (status == 401 || status == 403) {
    return error(StatusCode::kPermissionDenied,
                 "%s: the hub answers %d: it is private or gated; set HF_TOKEN", what, status);
  }
  if (status == 404) return error(StatusCode::kNotFound, "%s: not found on the hub", what);
  if (status == 429) {
    return error(StatusCode::kResourceExhausted,
                 "%s: the hub still answers 429 (too many requests) after %d pauses; try again "
                 "later; with HF_TOKEN set it allows more",
                 what, kPausesMax);
  }
  return error(StatusCode::kUnavailable, "%s: the hub answers %d", what, status);
}

// It becomes the name of a directory: SHA-1 or SHA-256, in hex.
bool is_commit(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) &&
         text.find_first_not_of("0123456789abcdef") == text.npos;
}

StatusOr<Listing> parse_listing(const std::string& body, const std::string& id) try {
  const auto json = nlohmann::json::parse(body);
  Listing listing{.commit = json.at("sha").get<std::string>(), .files = {}};
  if (!is_commit(listing.commit)) {
    return error(StatusCode::kDataLoss,
                 "%s: the hub names the commit %s, which is not 40 or 64 hexadecimal digits", id,
                 json.at("sha").dump(-1, ' ', true).substr(0, kShownMax));
  }
  for (const auto& sibling : json.at("siblings")) {
    auto name = sibling.at("rfilename").get<std::string>();
    if (is_needed(name)) listing.files.push_back(std::move(name));
  }
  return listing;
} catch (const nlohmann::json::exception& failure) {
  return error(StatusCode::kUnavailable, "%s: the hub's answer is not a listing: %s", id,
               failure.what());
}

PauseSink tells_of(const ProgressSink& sink) {
  return [&sink](uint32_t seconds) {
    if (sink) sink(DownloadProgress{.pause_seconds = seconds});
  };
}

StatusOr<Listing> list_files(const DownloadSource& source, const ProgressSink& sink) {
  HttpRequest request;
  request.url = source.endpoint + "/api/models/" + source.id + "/revision/" + source.revision;
  request.bearer_token = source.token;
  TRIREME_ASSIGN_OR_RETURN(const HttpResponse response, patient_fetch(request, tells_of(sink)));
  if (response.status != 200) {
    return explain_status(response.status, source.id + " revision " + source.revision);
  }
  return parse_listing(response.body, source.id);
}

// What the hub says of a file before it is fetched.
struct FileFacts {
  std::string etag;
  uint64_t bytes = 0;  // 0: unknown.
  [[nodiscard]] bool etag_is_sha256() const { return etag.size() == 64; }
};

std::string unquoted(std::string text) {
  if (text.starts_with("W/")) text.erase(0, 2);
  std::erase(text, '"');
  return text;
}

StatusOr<FileFacts> ask_facts(const DownloadSource& source, const std::string& url,
                              const ProgressSink& sink) {
  const HttpRequest request{
      .url = url, .head_only = true, .range_begin = 0, .bearer_token = source.token};
  TRIREME_ASSIGN_OR_RETURN(HttpResponse head, patient_fetch(request, tells_of(sink)));
  if (head.status != 200) return explain_status(head.status, url);
  const auto header = [&](const char* first, const char* second) {
    const auto found = head.headers.find(first);
    return found != head.headers.end() ? found->second : head.headers[second];
  };
  FileFacts facts{.etag = unquoted(header("x-linked-etag", "etag"))};
  const std::string size = header("x-linked-size", "content-length");
  facts.bytes = std::strtoull(size.c_str(), nullptr, 10);
  const bool is_plain = std::all_of(facts.etag.begin(), facts.etag.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
  if (facts.etag.empty() || !is_plain) {
    return error(StatusCode::kUnavailable, "%s: the hub names no usable ETag", url);
  }
  return facts;
}

StatusOr<std::string> sha256_of(const fs::path& path) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::ifstream file(path, std::ios::binary);
  std::vector<char> piece(1 << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    EVP_DigestUpdate(context.get(), piece.data(), static_cast<std::size_t>(file.gcount()));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += absl::StrFormat("%02x", digest[i]);
  return text;
}

class FileDownload {
 public:
  FileDownload(const DownloadSource& source, std::string url, FileFacts facts, fs::path part)
      : source_(source), url_(std::move(url)), facts_(std::move(facts)), part_(std::move(part)) {}

  // Appends to the part file from where it ends until all of it is there.
  Status run(DownloadProgress progress, const ProgressSink& sink) {
    Status last;
    for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
      last = append(progress, sink);
      if (last.ok()) return check();
      if (last.code() != StatusCode::kUnavailable) return last;
    }
    return annotate(last, absl::StrFormat("%d attempts", kAttemptsMax));
  }

 private:
  Status append(DownloadProgress& progress, const ProgressSink& sink) {
    std::error_code code;
    uint64_t have = fs::exists(part_, code) ? fs::file_size(part_, code) : 0;
    if (facts_.bytes > 0 && have == facts_.bytes) return absl::OkStatus();
    if (have > facts_.bytes) fs::resize_file(part_, 0, code), have = 0;
    std::ofstream file(part_, std::ios::binary | std::ios::app);
    if (!file) return error(StatusCode::kPermissionDenied, "%s: cannot be written", part_.string());
    progress.bytes_total = facts_.bytes;
    progress.bytes_done = have;
    const auto take = [&](std::string_view piece) -> Status {
      file.write(piece.data(), static_cast<std::streamsize>(piece.size()));
      file.flush();
      if (!file) {
        return error(StatusCode::kResourceExhausted, "%s: %s", part_.string(),
                     std::strerror(errno));
      }
      progress.bytes_done += piece.size();
      if (sink) sink(progress);
      return absl::OkStatus();
    };
    const HttpRequest request{
        .url = url_, .head_only = false, .range_begin = have, .bearer_token = source_.token};
    TRIREME_ASSIGN_OR_RETURN(const HttpResponse response,
                             patient_fetch(request, tells_of(sink), take));
    file.close();
    if (have > 0 &&
        response.status == 200) {  // The server does not do ranges: it sent all of it again.
      fs::remove(part_, code);
      return error(StatusCode::kUnavailable, "%s: cannot be resumed", url_);
    }
    if (response.status != 200 && response.status != 206)
      return explain_status(response.status, url_);
    return absl::OkStatus();
  }

  Status check() {
    std::error_code code;
    const uint64_t have = fs::file_size(part_, code);
    if (facts_.bytes > 0 && have != facts_.bytes) {
      fs::remove(part_, code);
      return error(StatusCode::kDataLoss, "%s: %d bytes came, %d were announced", url_, have,
                   facts_.bytes);
    }
    if (!facts_.etag_is_sha256()) return absl::OkStatus();
    TRIREME_ASSIGN_OR_RETURN(const std::string digest, sha256_of(part_));
    if (digest == facts_.etag) return absl::OkStatus();
    fs::remove(part_, code);
    return error(StatusCode::kDataLoss, "%s: SHA-256 is %s, the hub says %s", url_, digest,
                 facts_.etag);
  }

  const DownloadSource& source_;
  std::string url_;
  FileFacts facts_;
  fs::path part_;
};

Status fetch_file(const DownloadSource& source, const HubCache& cache, const std::string& commit,
                  const DownloadProgress& progress, const ProgressSink& sink) {
  const std::string url =
      source.endpoint + "/" + source.id + "/resolve/" + commit + "/" + progress.file;
  TRIREME_ASSIGN_OR_RETURN(const FileFacts facts, ask_facts(source, url, sink));
  const fs::path blob = cache.blob(facts.etag);
  if (!fs::exists(blob)) {
    const fs::path part = blob.string() + ".incomplete";
    TRIREME_RETURN_IF_ERROR(FileDownload(source, url, facts, part).run(progress, sink));
    fs::rename(part, blob);
  }
  const fs::path link = cache.snapshot(commit + ".incomplete") / progress.file;
  fs::create_directories(link.parent_path());
  fs::remove(link);
  fs::create_symlink(
      fs::relative(blob, cache.snapshot(commit) / fs::path(progress.file).parent_path()), link);
  return absl::OkStatus();
}

}  // namespace

StatusOr<fs::path> download_model(const DownloadSource& source, const fs::path& cache_root,
                                  const ProgressSink& sink) try {
  const HubCache cache(cache_root, source.id);
  TRIREME_ASSIGN_OR_RETURN(const Listing listing, list_files(source, sink));
  const fs::path snapshot = cache.snapshot(listing.commit);
  const fs::path unfinished = cache.snapshot(listing.commit + ".incomplete");
  fs::create_directories(cache.blob("x").parent_path());
  fs::create_directories(unfinished);
  DownloadProgress progress;
  progress.file_count = static_cast<uint32_t>(listing.files.size());
  for (const std::string& file : listing.files) {
    progress.file = file;
    ++progress.file_number;
    TRIREME_RETURN_IF_ERROR(fetch_file(source, cache, listing.commit, progress, sink));
  }
  std::error_code code;
  fs::remove_all(snapshot, code);
  fs::rename(unfinished, snapshot);
  fs::create_directories(cache.ref(source.revision).parent_path());
  std::ofstream(cache.ref(source.revision)) << listing.commit;
  return snapshot;
} catch (const fs::filesystem_error& failure) {
  return error(StatusCode::kPermissionDenied, "%s", failure.what());
}

}  // namespace trireme::hub
