// GenerateCall: one completion or chat request from its parsed form to the end of its answer.
//
//   prompts -> token ids -> (admission, balancing) -> engines -> choices -> events or one answer
//
// It keeps itself alive by the journal's entries (and the encode pool before that); the exchange
// knows it weakly, and its disconnect aborts what runs. The head of a stream is sent with the first
// token, so that all that fails before is a plain error answer.
// Threads: the http thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api_server/engine_client/engine_client.h"
#include "api_server/http/exchange.h"
#include "api_server/openai/choice.h"
#include "api_server/openai/choice_meter.h"
#include "api_server/openai/encode_pool.h"
#include "api_server/openai/generate_request.h"
#include "api_server/openai/metrics.h"
#include "api_server/openai/reply_text.h"
#include "common/clock.h"
#include "common/random.h"
#include "text/tokenizer.h"

namespace trireme::api {

// What every call shares; owned by the service.
struct CallContext {
  EngineClient& engines;
  const text::Tokenizer& tokenizer;
  EncodePool& encoder;
  Metrics& metrics;
  Random random;
  std::vector<int32_t> eos_token_ids;
  uint32_t vocabulary_size = 0;
  std::size_t token_bytes_max = 1;  // Of the longest token.
  std::string response_role = "assistant";
  std::string chunk;  // Where events are written before they are sent; reused.
};

class GenerateCall final : public OutputSink, public std::enable_shared_from_this<GenerateCall> {
 public:
  // `prompts` of the request hold text or ids; `model` is the name to answer with.
  static void start(CallContext& context, std::shared_ptr<Exchange> exchange,
                    GenerateRequest request, std::string_view model,
                    std::optional<uint32_t> pinned_rank);

  GenerateCall(CallContext& context, std::shared_ptr<Exchange> exchange, GenerateRequest request,
               std::string_view model, std::optional<uint32_t> pinned_rank);

  void take(uint32_t choice, wire::EngineOutput& output) override;
  void fail(uint32_t choice, const Status& status) override;

 private:
  struct Part {  // One choice.
    Choice choice;
    ChoiceDelta joined;  // Of a whole answer, or held for the next event.
    ChoiceMeter meter;
    uint32_t sent_tokens = 0;
    bool is_first_chunk = true;
  };

  void encode();
  void submit();
  [[nodiscard]] Status prepare(std::vector<wire::AddRequest>& requests);
  [[nodiscard]] Status check_text(std::string_view text) const;
  [[nodiscard]] Status check_prompt(Prompt& prompt) const;
  [[nodiscard]] const char* field_name() const { return request_.is_chat ? "messages" : "prompt"; }
  [[nodiscard]] wire::AddRequest add_request(const Prompt& prompt, uint32_t index);
  [[nodiscard]] Status encode_bad_words();
  void cancel();
  void hold_delta(uint32_t index);
  void send_delta(uint32_t index, const ChoiceDelta& delta);
  void measure_prompts();
  void end_choice(uint32_t index, wire::FinishReason reason);
  void finish();
  void finish_with(const HttpReply& reply);
  [[nodiscard]] Usage usage() const;
  [[nodiscard]] const Prompt& prompt_of(std::size_t index) const {
    return request_.prompts[index / request_.n];
  }

  CallContext& context_;
  const std::shared_ptr<Exchange> exchange_;
  GenerateRequest request_;
  const std::optional<uint32_t> pinned_rank_;
  const Instant arrived_;
  ReplyText reply_text_;
  std::vector<RequestKey> keys_;
  std::vector<Part> parts_;
  ChoiceDelta delta_;
  std::size_t ended_ = 0;
  bool has_finished_ = false;
};

}  // namespace trireme::api
