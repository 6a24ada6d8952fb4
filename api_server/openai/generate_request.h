// GenerateRequest: /v1/completions and /v1/chat/completions as one request, validated as far as
// that needs neither tokenizer nor engine.
//
// parse_* refuse with kInvalidArgument naming the field (field_error.h). Unknown fields and nulls
// are ignored; what we know of and cannot do is refused by name, never ignored.
// Bounds: RequestLimits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "proto/sampling_params.h"

namespace trireme::api {

struct RequestLimits {
  std::size_t json_depth_max = 64;
  std::size_t prompts_max = 1024;
  std::size_t prompt_tokens_max = 4 * 1024 * 1024;  // Of all prompts; before any model's limit.
  uint32_t choices_max = 128;                       // n
  std::size_t stop_strings_max = 4;
  std::size_t stop_bytes_max = 1024;
  std::size_t cache_salt_bytes_max = 1024;
  std::size_t messages_max = 4096;
  std::size_t token_list_max = 4096;  // stop_token_ids, allowed_token_ids, logit_bias, bad_words
  int32_t logprobs_max = 20;          // --max-logprobs; -1: no limit
  bool trusts_chat_template = false;  // --trust-request-chat-template
  uint32_t vocabulary_size = 0;       // Of the model; 0: not known, token ids are not checked.
};

// What generation_config.json says where the client says nothing.
struct SamplingDefaults {
  wire::SamplingParams sampling;
  std::optional<uint32_t> output_tokens_max;
};

struct Prompt {
  std::string text;                // If there are no token ids.
  std::vector<int32_t> token_ids;  // Given, or tokenized from `text`.
  bool is_tokens = false;
};

struct GenerateRequest {
  bool is_chat = false;
  std::string model;
  std::vector<Prompt> prompts;  // Completions; a chat's is rendered from what follows.
  std::string messages_json;
  std::string tools_json;                // Empty: none.
  std::string kwargs_json;               // chat_template_kwargs; empty: none.
  std::string chat_template;             // The request's own; empty: the server's.
  std::optional<bool> wants_tool_calls;  // tool_choice; none: "auto" if there are tools.
  bool add_generation_prompt = true;
  bool continue_final_message = false;

  wire::SamplingParams sampling;
  std::optional<uint64_t> seed;
  std::optional<uint32_t> output_tokens_max;      // max_tokens: as asked for
  std::optional<uint32_t> completion_tokens_max;  // max_completion_tokens: wins, by read_chat().
  std::optional<uint32_t> output_tokens_default;  // Else this or less; none: what the model holds.
  std::optional<int32_t> truncate_prompt_tokens;
  uint32_t n = 1;
  std::optional<uint32_t> best_of;  // Nothing but n is possible.
  bool echo = false;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  uint32_t stream_interval = 1;  // Tokens in an event, but for the first and the last.
  std::vector<std::string> stop;
  std::vector<std::string> bad_words;
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  bool spaces_between_special_tokens = true;
  bool add_special_tokens = true;
  bool return_token_ids = false;
  bool tokens_as_ids = false;  // return_tokens_as_token_ids
  bool wants_logprobs = false;
  int32_t top_logprobs = 0;  // -1, all, becomes the vocabulary's size; of prompt_logprobs too.
  std::optional<int32_t> prompt_logprobs;
  std::string user;
  std::string cache_salt;
  int32_t priority = 0;
};

struct TokenizeRequest {
  std::string model;
  std::string prompt;
  std::optional<GenerateRequest> chat;  // With `messages` instead of a prompt.
  bool add_special_tokens = true;
  bool return_token_strings = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};

struct EmbeddingRequest;

// Threads: one owner. Keeps its memory between requests, unless one was very large.
class RequestReader {
 public:
  explicit RequestReader(RequestLimits limits, SamplingDefaults defaults = {});
  ~RequestReader();

  [[nodiscard]] StatusOr<GenerateRequest> read_completion(const std::string& body);
  [[nodiscard]] StatusOr<GenerateRequest> read_chat(const std::string& body);
  [[nodiscard]] StatusOr<EmbeddingRequest> read_embedding(const std::string& body);
  [[nodiscard]] StatusOr<TokenizeRequest> read_tokenize(const std::string& body);
  [[nodiscard]] StatusOr<DetokenizeRequest> read_detokenize(const std::string& body);

 private:
  struct Json;  // simdjson, behind a wall.
  const RequestLimits limits_;
  const SamplingDefaults defaults_;
  std::unique_ptr<Json> json_;
};

}  // namespace trireme::api
