// ReplyText: the JSON of answers and stream chunks, written as text around a prefix that is made
// once a request.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api_server/openai/choice.h"

namespace trireme::api {

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;
};

class ReplyText {
 public:
  struct Options {
    bool is_chat = false;
    std::string_view id;  // Without "cmpl-" or "chatcmpl-".
    int64_t created = 0;
    std::string_view model;
    std::string_view role;  // --response-role
    bool with_token_ids = false;
  };
  explicit ReplyText(const Options& options);

  // Stream: server-sent events, appended to `out`.
  // Chat: before the first text. The prompt's ids are shown with return_token_ids.
  void append_role(std::string& out, uint32_t index,
                   const std::vector<int32_t>& prompt_token_ids) const;
  // `usage`: of continuous_usage_stats, or null. `prompt_token_ids`: of a choice's first chunk, or
  // null; shown with return_token_ids, unless a chat's role came with them.
  void append_chunk(std::string& out, uint32_t index, const ChoiceDelta& delta, const Usage* usage,
                    const std::vector<int32_t>* prompt_token_ids) const;
  void append_usage(std::string& out, const Usage& usage) const;
  static void append_done(std::string& out) { out += "data: [DONE]\n\n"; }
  // `body`: of an error, {"error":...}.
  static void append_error(std::string& out, std::string_view body);

  // Whole answer.
  struct WholeChoice {
    const ChoiceDelta& joined;
    const std::vector<int32_t>& prompt_token_ids;
  };
  [[nodiscard]] std::string whole(const std::vector<WholeChoice>& choices,
                                  const Usage& usage) const;

 private:
  void append_whole_choice(std::string& out, uint32_t index, const WholeChoice& choice) const;
  // With a completion's choice; a chat, which has one prompt, shows it beside its choices.
  void append_prompt(std::string& out, const WholeChoice& choice) const;

  bool is_chat_;
  bool with_token_ids_;
  std::string role_json_;
  std::string chunk_prefix_;  // data: {"id":...,"choices":[
  std::string whole_prefix_;  // {"id":...,"choices":[
};

}  // namespace trireme::api
