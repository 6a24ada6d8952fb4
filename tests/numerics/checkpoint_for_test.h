// A model directory that a test writes tensor by tensor.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/weights/model_directory.h"
#include "worker/weights/test_directory.h"

namespace trireme::worker {

[[nodiscard]] inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

class CheckpointForTest {
 public:
  void add(std::string_view name, std::string_view dtype, const std::vector<int64_t>& shape,
           std::string_view bytes) {
    std::string sizes;
    for (const int64_t size : shape) {
      absl::StrAppendFormat(&sizes, "%s%d", sizes.empty() ? "" : ",", size);
    }
    absl::StrAppendFormat(&header_, R"(%s"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})",
                          header_.empty() ? "" : ",", name, dtype, sizes, data_.size(),
                          data_.size() + bytes.size());
    data_ += bytes;
  }
  void add_copy(const TensorView& tensor) {
    add(tensor.name, name_of(tensor.dtype), tensor.shape,
        {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
  }

  [[nodiscard]] ModelDirectory open(std::string_view config) const {
    const TestDirectory written;  // What is open stays mapped without it.
    written.write("config.json", config);
    written.write("model.safetensors", safetensors_bytes("{" + header_ + "}", data_));
    auto directory = ModelDirectory::open(written.path());
    EXPECT_TRUE(directory.ok()) << directory.status();
    return std::move(directory).value();
  }

 private:
  std::string header_;
  std::string data_;
};

}  // namespace trireme::worker
