// What ConfigFields reads from. Only for .cc files: the JSON library is heavy.
#pragma once

#include <nlohmann/json.hpp>

namespace trireme::worker {

struct ConfigJson {
  nlohmann::json value;

  // Null counts as absent.
  [[nodiscard]] const nlohmann::json* find(const char* name) const {
    const auto it = value.find(name);
    return it == value.end() || it->is_null() ? nullptr : &*it;
  }
  [[nodiscard]] bool is_null(const char* name) const {
    const auto it = value.find(name);
    return it != value.end() && it->is_null();
  }
};

}  // namespace trireme::worker
