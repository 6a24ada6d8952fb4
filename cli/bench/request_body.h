// RequestBody: the JSON body of each request of a load: fields that are the same in all, rendered
// once, and around them the prompt and the number of tokens. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"

namespace trireme::bench {

struct BodyOptions {
  std::string model;
  bool is_chat = false;
  bool is_stream = true;
  bool ignores_eos = true;
  uint32_t choices = 1;                                         // n
  std::vector<std::pair<std::string, std::string>> parameters;  // Name and JSON text.
  std::string extra_body;  // A JSON object: its fields win over all others. May be empty.
};

class RequestBody {
 public:
  [[nodiscard]] static StatusOr<RequestBody> make(const BodyOptions& options);

  // Completion: the ids. Chat: one user message of as many common words; what the server counts
  // is in its usage.
  [[nodiscard]] std::string text(std::span<const uint32_t> prompt, uint32_t output_len) const;
  // Completion: one request of several prompts.
  [[nodiscard]] std::string batch_text(const std::vector<std::vector<uint32_t>>& prompts,
                                       uint32_t output_len) const;

 private:
  explicit RequestBody(std::string common) : common_(std::move(common)) {}
  [[nodiscard]] std::string with(const std::string& prompt, uint32_t output_len) const;

  std::string common_;  // Fields with a comma behind each.
  bool is_chat_ = false;
  bool has_prompt_ = false;  // extra_body brings them.
  bool has_length_ = false;
};

}  // namespace trireme::bench
