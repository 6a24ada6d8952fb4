#include "api_server/openai/logprobs_text.h"

#include <array>
#include <charconv>
#include <cmath>

#include "common/json_text.h"

namespace trireme::api {
namespace {

std::string token_text(const text::Tokenizer& tokenizer, const LogprobsText::Shape& shape,
                       int32_t id) {
  if (shape.tokens_as_ids) return "token_id:" + std::to_string(id);
  return tokenizer.token_text(id);
}

std::size_t character_count(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

void comma(std::string& out) {
  if (!out.empty()) out += ',';
}

void append_chat_entry(std::string& out, const text::Tokenizer& tokenizer,
                       const LogprobsText::Shape& shape, int32_t id, float logprob) {
  out += R"({"token":)";
  append_json_string(out, token_text(tokenizer, shape, id));
  out += R"(,"logprob":)";
  append_float(out, logprob);
  out += R"(,"bytes":[)";
  bool is_first = true;
  for (const char byte : tokenizer.token_bytes(id)) {
    if (!is_first) out += ',';
    is_first = false;
    append_integer(out, static_cast<uint8_t>(byte));
  }
  out += ']';
}

}  // namespace

void append_integer(std::string& out, int64_t value) {
  std::array<char, 24> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), end.ptr);
}

void append_integers(std::string& out, const std::vector<int32_t>& values) {
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    append_integer(out, values[i]);
  }
  out += ']';
}

void append_float(std::string& out, float value) {
  constexpr float kLowest = -9999.0F;
  if (!std::isfinite(value)) value = kLowest;
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), end.ptr);
}

void LogprobsText::add(const text::Tokenizer& tokenizer, const Shape& shape,
                       const wire::TokenLogprobs& token, std::size_t& offset) {
  const std::size_t count = std::min(token.token_ids.size(), token.logprobs.size());
  if (count == 0) return;
  const int32_t id = token.token_ids[0];
  const std::size_t top_count =
      std::min(count - 1, static_cast<std::size_t>(std::max(shape.top, 0)));
  comma(tokens_);
  if (shape.is_chat) {
    append_chat_entry(tokens_, tokenizer, shape, id, token.logprobs[0]);
    tokens_ += R"(,"top_logprobs":[)";
    for (std::size_t i = 1; i <= top_count; ++i) {
      if (i > 1) tokens_ += ',';
      append_chat_entry(tokens_, tokenizer, shape, token.token_ids[i], token.logprobs[i]);
      tokens_ += '}';
    }
    tokens_ += "]}";
    return;
  }
  const std::string text = token_text(tokenizer, shape, id);
  append_json_string(tokens_, text);
  comma(token_logprobs_);
  append_float(token_logprobs_, token.logprobs[0]);
  comma(text_offsets_);
  append_integer(text_offsets_, static_cast<int64_t>(offset));
  offset += character_count(text);
  comma(top_logprobs_);
  top_logprobs_ += '{';
  append_json_string(top_logprobs_, text);
  top_logprobs_ += ':';
  append_float(top_logprobs_, token.logprobs[0]);
  for (std::size_t i = 1; i <= top_count; ++i) {
    if (token.token_ids[i] == id) continue;
    top_logprobs_ += ',';
    append_json_string(top_logprobs_, token_text(tokenizer, shape, token.token_ids[i]));
    top_logprobs_ += ':';
    append_float(top_logprobs_, token.logprobs[i]);
  }
  top_logprobs_ += '}';
}

void LogprobsText::add_unknown(const text::Tokenizer& tokenizer, const Shape& shape,
                               int32_t token_id, std::size_t& offset) {
  const std::string text = token_text(tokenizer, shape, token_id);
  comma(tokens_);
  append_json_string(tokens_, text);
  comma(token_logprobs_);
  token_logprobs_ += "null";
  comma(top_logprobs_);
  top_logprobs_ += "null";
  comma(text_offsets_);
  append_integer(text_offsets_, static_cast<int64_t>(offset));
  offset += character_count(text);
}

void LogprobsText::append(const LogprobsText& other) {
  const auto join = [](std::string& out, const std::string& more) {
    if (more.empty()) return;
    comma(out);
    out += more;
  };
  join(tokens_, other.tokens_);
  join(token_logprobs_, other.token_logprobs_);
  join(top_logprobs_, other.top_logprobs_);
  join(text_offsets_, other.text_offsets_);
}

void LogprobsText::clear() {
  tokens_.clear();
  token_logprobs_.clear();
  top_logprobs_.clear();
  text_offsets_.clear();
}

void LogprobsText::append_json(std::string& out, bool is_chat) const {
  if (tokens_.empty()) {
    out += "null";
    return;
  }
  if (is_chat) {
    out += R"({"content":[)";
    out += tokens_;
    out += "]}";
    return;
  }
  out += R"({"text_offset":[)";
  out += text_offsets_;
  out += R"(],"token_logprobs":[)";
  out += token_logprobs_;
  out += R"(],"tokens":[)";
  out += tokens_;
  out += R"(],"top_logprobs":[)";
  out += top_logprobs_;
  out += "]}";
}

void append_prompt_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                            const wire::TokenLogprobs& token) {
  out += '{';
  const std::size_t count = std::min(token.token_ids.size(), token.logprobs.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0 && token.token_ids[i] == token.token_ids[0]) continue;
    if (i > 0) out += ',';
    out += '"';
    append_integer(out, token.token_ids[i]);
    out += R"(":{"logprob":)";
    append_float(out, token.logprobs[i]);
    out += R"(,"rank":)";
    append_integer(out, i == 0 ? token.rank : static_cast<int64_t>(i));
    out += R"(,"decoded_token":)";
    append_json_string(out, tokenizer.token_text(token.token_ids[i]));
    out += '}';
  }
  out += '}';
}

}  // namespace trireme::api
