// A command line from fuzzed bytes: words end with a newline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace trireme {

class Words {
 public:
  Words(const uint8_t* data, std::size_t size) {
    std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
    for (std::string line; std::getline(lines, line);) words_.push_back(line.c_str());
  }
  [[nodiscard]] std::vector<const char*> pointers() const {
    std::vector<const char*> pointers;
    for (const std::string& word : words_) pointers.push_back(word.c_str());
    return pointers;
  }

 private:
  std::vector<std::string> words_;  // Without zero bytes, as argv has them.
};

}  // namespace trireme
