// EmbeddingCall: one /v1/embeddings request from its parsed form to its answer.
//
//   inputs -> token ids -> (admission, balancing) -> engines -> vectors, cut and normalised ->
//   answer
//
// The answer has the vectors in the order of the inputs, whoever was done first, or one error. As a
// GenerateCall it is kept alive by the journal's entries, and a disconnect aborts all that runs.
// Threads: the http thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api_server/openai/choice_meter.h"
#include "api_server/openai/embedding_request.h"
#include "api_server/openai/generate_call.h"
#include "api_server/openai/pooler_info.h"

namespace trireme::api {

// Of the vector's first dimensions (0: all), divided by their length if asked for. Of length 0 it
// stays as it is.
void cut_and_normalise(std::vector<float>& vector, uint32_t dimensions, bool normalises);

class EmbeddingCall final : public OutputSink, public std::enable_shared_from_this<EmbeddingCall> {
 public:
  // `pooler` outlives the call; `model` is the name to answer with.
  static void start(CallContext& context, std::shared_ptr<Exchange> exchange,
                    EmbeddingRequest request, std::string model, const PoolerInfo& pooler,
                    std::optional<uint32_t> pinned_rank);

  EmbeddingCall(CallContext& context, std::shared_ptr<Exchange> exchange, EmbeddingRequest request,
                std::string model, const PoolerInfo& pooler, std::optional<uint32_t> pinned_rank);

  void take(uint32_t index, wire::EngineOutput& output) override;
  void fail(uint32_t index, const Status& status) override;

 private:
  struct Part {  // One input.
    std::vector<float> vector;
    ChoiceMeter meter;
  };

  void encode();
  [[nodiscard]] Status check_dimensions() const;
  // Leaves the special tokens that end every text.
  void truncate(std::span<const int32_t> specials);
  void submit();
  [[nodiscard]] Status check_input(const Prompt& input) const;
  [[nodiscard]] wire::AddRequest add_request(const Prompt& input) const;
  void cancel();
  void finish();
  void finish_with(const HttpReply& reply);
  [[nodiscard]] std::string answer() const;

  CallContext& context_;
  const std::shared_ptr<Exchange> exchange_;
  EmbeddingRequest request_;
  const std::string model_;
  const PoolerInfo& pooler_;
  const std::optional<uint32_t> pinned_rank_;
  const Instant arrived_;
  std::vector<RequestKey> keys_;
  std::vector<Part> parts_;
  std::size_t ended_ = 0;
  bool has_finished_ = false;
};

}  // namespace trireme::api
