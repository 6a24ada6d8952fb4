// ConfigFields: typed fields of one JSON object of config.json, for what only some architectures
// have. A null counts as absent but where it means none (read_or_none). The first thing wrong is
// kept in status(), names the field and the value, and ends nothing: read on, then ask once.
// Threads: one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"

namespace trireme::worker {

struct ConfigJson;  // The parsed object; worker/weights/config_json.h.

class ConfigFields {
 public:
  // path names the object in errors.
  ConfigFields(std::shared_ptr<const ConfigJson> object, std::string path)
      : object_(std::move(object)), path_(std::move(path)) {}

  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] const ConfigJson& object() const { return *object_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool has(const char* name) const;
  [[nodiscard]] bool is_null(const char* name) const;

  // `out` keeps its value where the field is absent.
  void read(const char* name, uint32_t& out, uint32_t least = 1);
  void read(const char* name, double& out);
  void read(const char* name, float& out);
  void read(const char* name, bool& out);
  void read(const char* name, std::string& out);
  void read(const char* name, std::vector<double>& out);
  void read(const char* name, std::vector<uint32_t>& out);
  template <typename Value>
  void read(const char* name, std::optional<Value>& out) {
    if (has(name)) read(name, out.emplace());
  }
  // A null is a value of its own there: none, whatever the architecture assumes.
  template <typename Value>
  void read_or_none(const char* name, Value& out) {
    if (is_null(name)) out = Value{};
    read(name, out);
  }
  // One field that several architectures spell differently; the last spelling present wins.
  template <typename Value>
  void read_any(std::initializer_list<const char*> names, Value& out) {
    for (const char* name : names) read(name, out);
  }

  void fail(const std::string& what);

 private:
  std::shared_ptr<const ConfigJson> object_;
  std::string path_;
  Status status_ = absl::OkStatus();
};

}  // namespace trireme::worker
