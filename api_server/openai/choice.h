// Choice: one sequence of a request: engine outputs in, what the client gets next out.
//
// This is the one output path: a stream sends each delta, a whole answer is the deltas joined
// (ChoiceDelta::append). Text leaves when no later token can change it and no stop string can begin
// in it; after a stop string, tokens that came with it are dropped.
// Threads: one owner. The tokenizer outlives it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api_server/openai/generate_request.h"
#include "api_server/openai/logprobs_text.h"
#include "proto/engine_outputs.h"
#include "text/detokenizer.h"
#include "text/stop_checker.h"
#include "text/tokenizer.h"

namespace trireme::api {

struct ChoiceDelta {
  std::string text;
  LogprobsText logprobs;
  std::string prompt_logprobs;     // Entries of an array, joined by commas.
  std::vector<int32_t> token_ids;  // If asked for.
  wire::FinishReason finish_reason = wire::FinishReason::kNone;
  std::string stop_reason_json = "null";  // The stop string or token id that ended it.

  [[nodiscard]] bool is_worth_sending() const {
    return !text.empty() || !logprobs.is_empty() || !token_ids.empty() ||
           finish_reason != wire::FinishReason::kNone;
  }
  void append(const ChoiceDelta& next);
  void clear();
};

class Choice {
 public:
  // `echo`: what the answer begins with; its log-probabilities come with the engine's outputs.
  Choice(const GenerateRequest& request, const text::Tokenizer& tokenizer,
         const std::vector<int32_t>& prompt_token_ids, std::string echo);

  // Adds to `delta` (cleared by the caller). True: ended here by a stop string while the engine
  // goes on, which must be told.
  bool take(const wire::EngineOutput& output, ChoiceDelta& delta);

  [[nodiscard]] bool has_ended() const { return has_ended_; }
  [[nodiscard]] uint32_t completion_tokens() const { return completion_tokens_; }

 private:
  void take_prompt(const wire::EngineOutput& output, ChoiceDelta& delta);
  void take_token(const wire::EngineOutput& output, std::size_t i, ChoiceDelta& delta);
  void take_text(std::string_view text, ChoiceDelta& delta);
  void finish(const wire::EngineOutput& output, ChoiceDelta& delta);

  const GenerateRequest& request_;
  const text::Tokenizer& tokenizer_;
  LogprobsText::Shape shape_;
  text::Detokenizer detokenizer_;
  std::optional<text::StopChecker> stops_;
  std::string echo_;
  int32_t first_prompt_token_ = 0;
  std::size_t offset_ = 0;
  uint32_t completion_tokens_ = 0;
  bool has_begun_ = false;
  bool has_ended_ = false;
  bool drops_output_;  // max_tokens = 0: the engine makes one token that nobody sees.
};

[[nodiscard]] std::string_view finish_reason_json(wire::FinishReason reason);

}  // namespace trireme::api
