#include "worker/weights/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

namespace trireme::worker {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr uint64_t kNumberMax = uint64_t{1} << 62;  // Sums of two stay in range.

struct RawEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

// Takes the header's JSON event by event: the format has three fixed levels, so anything deeper
// stops the parse at once, and duplicate names (which a DOM would swallow) are seen.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<RawEntry> entries;
  std::string problem;

  bool null() override { return fail("null"); }
  bool boolean(bool) override { return fail("a boolean"); }
  bool number_integer(number_integer_t) override { return fail("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return fail("a fraction"); }
  bool binary(binary_t&) override { return fail("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (list_ == nullptr && offsets_ == nullptr) return fail("a number");
    if (value > kNumberMax) return stop(absl::StrFormat("has the number %u, out of range", value));
    if (offsets_ != nullptr) {
      if (offsets_->size() == 2) return stop("has more than two data_offsets");
      offsets_->push_back(value);
      return true;
    }
    if (list_->size() == kTensorRankMax) {
      return stop(absl::StrFormat("has more than %u dimensions", kTensorRankMax));
    }
    list_->push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ != 2) return fail("a string");
    if (in_metadata_) return true;
    if (field_ != "dtype") return fail("a string");
    entries.back().dtype = std::move(value);
    entries.back().has_dtype = true;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      if (!names_.insert(name).second) {
        problem = absl::StrFormat("tensor \"%s\" appears twice", name);
        return false;
      }
      in_metadata_ = name == "__metadata__";
      if (!in_metadata_) entries.push_back({.name = name});
      return true;
    }
    field_ = name;
    return in_metadata_ || begin_field(name);
  }

  bool start_object(std::size_t) override {
    if (depth_ == 2 || is_in_list()) return fail("an object");
    ++depth_;
    return true;
  }

  bool end_object() override {
    --depth_;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || is_in_list()) return fail("a list");
    if (field_ == "shape") {
      list_ = &entries.back().shape;
      entries.back().has_shape = true;
    } else if (field_ == "data_offsets") {
      offsets_ = &entries.back().offsets;
      entries.back().has_offsets = true;
    } else {
      return fail("a list");
    }
    return true;
  }

  bool end_array() override {
    list_ = nullptr;
    offsets_ = nullptr;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    problem = absl::StrFormat("bad JSON at byte %u", position);
    return false;
  }

 private:
  bool is_in_list() const { return list_ != nullptr || offsets_ != nullptr; }

  bool begin_field(const std::string& name) {
    const RawEntry& entry = entries.back();
    const bool is_known = name == "dtype" || name == "shape" || name == "data_offsets";
    if (!is_known) return stop(absl::StrFormat("has the unknown field \"%s\"", name));
    const bool is_second = (name == "dtype" && entry.has_dtype) ||
                           (name == "shape" && entry.has_shape) ||
                           (name == "data_offsets" && entry.has_offsets);
    return is_second ? stop(absl::StrFormat("has \"%s\" twice", name)) : true;
  }

  bool fail(const char* what) {
    if (depth_ == 0 || in_metadata_ || entries.empty()) {
      problem = absl::StrFormat("%s where the format has none", what);
      return false;
    }
    return stop(absl::StrFormat("has %s where the format has none (field \"%s\")", what, field_));
  }

  bool stop(const std::string& what) {
    problem = absl::StrFormat("tensor \"%s\" %s", entries.back().name, what);
    return false;
  }

  std::unordered_set<std::string> names_;
  std::string field_;
  std::vector<int64_t>* list_ = nullptr;
  std::vector<uint64_t>* offsets_ = nullptr;
  int depth_ = 0;
  bool in_metadata_ = false;
};

Status lie(const std::string& path, const std::string& what) {
  return error(StatusCode::kDataLoss, "%s: %s", path, what);
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    absl::StrAppendFormat(&out, "%s%d", i == 0 ? "" : ", ", shape[i]);
  }
  return out + "]";
}

std::optional<uint64_t> bytes_of(const std::vector<int64_t>& shape, DType dtype) {
  uint64_t bytes = size_of(dtype);
  bool is_empty = false;
  for (const int64_t dimension : shape) is_empty = is_empty || dimension == 0;
  if (is_empty) return 0;
  for (const int64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dimension), &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

StatusOr<SafetensorsEntry> checked(RawEntry& raw, std::span<const std::byte> data,
                                   const std::string& path) {
  const auto tensor = [&](const std::string& what) {
    return lie(path, absl::StrFormat("tensor \"%s\" %s", raw.name, what));
  };
  if (!raw.has_dtype || !raw.has_shape || !raw.has_offsets || raw.offsets.size() != 2) {
    return tensor("lacks one of dtype, shape, data_offsets (two numbers)");
  }
  const std::optional<DType> dtype = dtype_of(raw.dtype);
  if (!dtype) return tensor(absl::StrFormat("has the unknown dtype \"%s\"", raw.dtype));
  const uint64_t begin = raw.offsets[0];
  const uint64_t end = raw.offsets[1];
  if (begin > end || end > data.size()) {
    return tensor(absl::StrFormat(
        "lies at [%u, %u), but the file has %u bytes of data: it is truncated or its header lies",
        begin, end, data.size()));
  }
  const std::optional<uint64_t> bytes = bytes_of(raw.shape, *dtype);
  if (!bytes || *bytes != end - begin) {
    return tensor(absl::StrFormat("has %u bytes at [%u, %u), but its shape %s of %s needs %s",
                                  end - begin, begin, end, text_of(raw.shape), raw.dtype,
                                  bytes ? absl::StrFormat("%u", *bytes) : "more than 2^64"));
  }
  return SafetensorsEntry{std::move(raw.name), *dtype, std::move(raw.shape),
                          data.subspan(begin, end - begin)};
}

// Every byte of the data belongs to exactly one tensor.
Status check_cover(const std::vector<SafetensorsEntry>& entries, std::span<const std::byte> data,
                   const std::string& path) {
  uint64_t covered = 0;
  const SafetensorsEntry* previous = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    const auto begin = static_cast<uint64_t>(entry.bytes.data() - data.data());
    if (begin < covered) {
      return lie(path, absl::StrFormat("tensor \"%s\" begins at %u inside tensor \"%s\", which "
                                       "ends at %u",
                                       entry.name, begin, previous->name, covered));
    }
    if (begin > covered) {
      return lie(path, absl::StrFormat("bytes [%u, %u) before tensor \"%s\" belong to no tensor",
                                       covered, begin, entry.name));
    }
    covered = begin + entry.bytes.size();
    previous = &entry;
  }
  if (covered != data.size()) {
    return lie(path, absl::StrFormat("the last %u bytes belong to no tensor (data has %u)",
                                     data.size() - covered, data.size()));
  }
  return absl::OkStatus();
}

StatusOr<std::span<const std::byte>> header_of(std::span<const std::byte> file,
                                               const std::string& path) {
  if (file.size() < kLengthBytes) {
    return lie(path, absl::StrFormat("has %u bytes, too few for a safetensors file", file.size()));
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kSafetensorsHeaderBytesMax) {
    return lie(path, absl::StrFormat("header of %u bytes is over the limit of %u: not a "
                                     "safetensors file?",
                                     length, kSafetensorsHeaderBytesMax));
  }
  if (length > file.size() - kLengthBytes) {
    return lie(path, absl::StrFormat("header of %u bytes reaches beyond the file's %u", length,
                                     file.size()));
  }
  return file.subspan(kLengthBytes, length);
}

}  // namespace

StatusOr<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> file,
                                                          const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::span<const std::byte> header, header_of(file, path));
  HeaderEvents events;
  const auto* text = reinterpret_cast<const char*>(header.data());
  if (!nlohmann::json::sax_parse(text, text + header.size(), &events)) {
    return lie(path, "header: " + events.problem);
  }
  const std::span<const std::byte> data = file.subspan(kLengthBytes + header.size());
  std::vector<SafetensorsEntry> entries;
  entries.reserve(events.entries.size());
  for (RawEntry& raw : events.entries) {
    TRIREME_ASSIGN_OR_RETURN(SafetensorsEntry entry, checked(raw, data, path));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    const auto a_key = std::pair(a.bytes.data(), a.bytes.size());
    const auto b_key = std::pair(b.bytes.data(), b.bytes.size());
    return a_key != b_key ? a_key < b_key : a.name < b.name;
  });
  TRIREME_RETURN_IF_ERROR(check_cover(entries, data, path));
  return entries;
}

}  // namespace trireme::worker
