// LogprobsText: the log-probabilities of tokens as JSON, in either of OpenAI's two shapes, built as
// tokens come: what several of them hold, appended, is what one would have held.
//
//   completions  {"text_offset":[..],"token_logprobs":[..],"tokens":[..],"top_logprobs":[{..}, ..]}
//   chat         {"content":[{"token","logprob","bytes","top_logprobs":[..]}, ..]}
//
// Threads: one owner.
#pragma once

#include <cstdint>
#include <string>

#include "proto/engine_outputs.h"
#include "text/tokenizer.h"

namespace trireme::api {

class LogprobsText {
 public:
  struct Shape {
    bool is_chat = false;
    bool tokens_as_ids = false;  // "token_id:17" instead of text
    int32_t top = 0;
  };

  // `offset`: where the token begins in the answer's text, in characters; moved on by the token.
  void add(const text::Tokenizer& tokenizer, const Shape& shape, const wire::TokenLogprobs& token,
           std::size_t& offset);
  // A token without one: the first of a prompt.
  void add_unknown(const text::Tokenizer& tokenizer, const Shape& shape, int32_t token_id,
                   std::size_t& offset);
  void append(const LogprobsText& other);
  void clear();
  [[nodiscard]] bool is_empty() const { return tokens_.empty(); }
  // The object, or null if nothing was added.
  void append_json(std::string& out, bool is_chat) const;

 private:
  std::string tokens_;  // Chat: the whole entries.
  std::string token_logprobs_;
  std::string top_logprobs_;
  std::string text_offsets_;
};

// {"17":{"logprob":-0.1,"rank":1,"decoded_token":" a"}, ..} of one prompt position.
void append_prompt_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                            const wire::TokenLogprobs& token);
// JSON has no infinities: they and NaN become -9999, as in vLLM.
void append_float(std::string& out, float value);
void append_integer(std::string& out, int64_t value);
void append_integers(std::string& out, const std::vector<int32_t>& values);

}  // namespace trireme::api
