#include "cli/bench/answer_reader.h"

#include <simdjson.h>

#include <algorithm>

namespace trireme::bench {

using simdjson::SUCCESS;
using Json = simdjson::dom::element;

struct JsonScratch::Buffers {
  simdjson::dom::parser parser;
  std::string text;  // With the padding that simdjson reads behind.

  StatusOr<Json> parse(std::string_view document) {
    text.assign(document);
    text.append(simdjson::SIMDJSON_PADDING, '\0');
    Json root;
    // The padding is there, so the parser need not copy.
    const auto code = parser.parse(text.data(), document.size(), false).get(root);
    if (code == SUCCESS) return root;
    return error(StatusCode::kInvalidArgument, "broken JSON in the answer (%s): %s",
                 simdjson::error_message(code), document.substr(0, 200));
  }
};

JsonScratch::JsonScratch() : buffers_(std::make_unique<Buffers>()) {}
JsonScratch::~JsonScratch() = default;

namespace {

// {"error": {"message": ...}}, or vLLM's older form with the message at the top.
std::string error_message(const Json& root) {
  std::string_view message;
  if (root["error"]["message"].get_string().get(message) == SUCCESS) return std::string(message);
  if (root["error"].get_string().get(message) == SUCCESS) return std::string(message);
  if (root["message"].get_string().get(message) == SUCCESS) return std::string(message);
  return "";
}

bool has_error(const Json& root) {
  Json found;
  return root["error"].get(found) == SUCCESS && !found.is_null();
}

// The event that opens a chat has a role and no text.
bool is_opening(const Json& choice) {
  Json role;
  if (choice["delta"]["role"].get(role) != SUCCESS || role.is_null()) return false;
  for (const char* const name : {"content", "reasoning_content", "reasoning"}) {
    std::string_view text;
    if (choice["delta"][name].get_string().get(text) == SUCCESS && !text.empty()) return false;
  }
  std::string_view reason;
  return choice["finish_reason"].get_string().get(reason) != SUCCESS;
}

bool read_usage(const Json& root, Sample& sample) {
  uint64_t count = 0;
  if (root["usage"]["completion_tokens"].get_uint64().get(count) != SUCCESS) return false;
  sample.output_tokens = static_cast<uint32_t>(count);
  if (root["usage"]["prompt_tokens"].get_uint64().get(count) == SUCCESS) {
    sample.prompt_tokens = static_cast<uint32_t>(count);
  }
  return true;
}

}  // namespace

AnswerReader::AnswerReader(Sample& sample, JsonScratch& scratch)
    : sample_(sample), scratch_(scratch) {}

void AnswerReader::on_head(uint32_t status, std::string_view content_type) {
  status_ = status;
  is_stream_ = status == 200 && content_type.starts_with("text/event-stream");
}

Status AnswerReader::on_body(std::string_view piece, Instant now) {
  if (is_stream_) {
    return events_.feed(piece,
                        [this, now](std::string_view data) { return read_event(data, now); });
  }
  document_ += piece;
  if (document_.size() <= kJsonBytesMax) return absl::OkStatus();
  return error(StatusCode::kResourceExhausted, "an answer of more than %d bytes", kJsonBytesMax);
}

Status AnswerReader::read_event(std::string_view data, Instant now) {
  if (data == "[DONE]") {
    is_done_ = true;
    return absl::OkStatus();
  }
  TRIREME_ASSIGN_OR_RETURN(const Json root, scratch_.buffers_->parse(data));
  if (has_error(root)) {
    return error(StatusCode::kAborted, "error in the stream: %s", error_message(root));
  }
  if (read_usage(root, sample_)) has_usage_ = true;
  simdjson::dom::array choices;
  if (root["choices"].get_array().get(choices) != SUCCESS || choices.size() == 0) return {};
  if (pieces_ == 0 && is_opening(choices.at(0).value_unsafe())) return absl::OkStatus();
  take_piece(now);
  return absl::OkStatus();
}

void AnswerReader::take_piece(Instant now) {
  if (pieces_++ == 0) {
    sample_.ttft = now - sample_.start;
  } else {
    sample_.itls.push_back(now - last_piece_);
  }
  last_piece_ = now;
}

Status AnswerReader::read_document(Instant now) {
  auto root = scratch_.buffers_->parse(document_);
  if (status_ != 200) {
    std::string message = root.ok() ? error_message(*root) : "";
    if (message.empty()) message = document_.substr(0, 200);
    return error(StatusCode::kAborted, "HTTP %d: %s", status_, message);
  }
  TRIREME_RETURN_IF_ERROR(root.status());
  if (has_error(*root)) return error(StatusCode::kAborted, "%s", error_message(*root));
  has_usage_ = read_usage(*root, sample_);
  take_piece(now);
  is_done_ = true;
  return absl::OkStatus();
}

void AnswerReader::finish(Instant now) {
  if (!is_stream_) {
    if (const Status status = read_document(now); !status.ok()) {
      return fail(std::string(status.message()));
    }
  }
  if (!is_done_) return fail("the stream ended without [DONE]");
  if (pieces_ == 0) return fail("the answer has no text");
  if (!has_usage_) sample_.output_tokens = pieces_;
  // The last piece ends the answer; what comes after it is bookkeeping.
  sample_.latency = last_piece_ - sample_.start;
  sample_.state = SampleState::kCompleted;
}

void AnswerReader::fail(std::string_view why) {
  sample_.state = SampleState::kFailed;
  sample_.error = why;
  std::replace(sample_.error.begin(), sample_.error.end(), '\n', ' ');
}

}  // namespace trireme::bench
