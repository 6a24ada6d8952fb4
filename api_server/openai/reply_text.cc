#include "api_server/openai/reply_text.h"

#include "common/json_text.h"

namespace trireme::api {
namespace {

void append_usage_object(std::string& out, const Usage& usage) {
  out += R"({"prompt_tokens":)";
  append_integer(out, static_cast<int64_t>(usage.prompt_tokens));
  out += R"(,"total_tokens":)";
  append_integer(out, static_cast<int64_t>(usage.prompt_tokens + usage.completion_tokens));
  out += R"(,"completion_tokens":)";
  append_integer(out, static_cast<int64_t>(usage.completion_tokens));
  out += R"(,"prompt_tokens_details":{"cached_tokens":)";
  append_integer(out, static_cast<int64_t>(usage.cached_tokens));
  out += "}}";
}

}  // namespace

ReplyText::ReplyText(const Options& options)
    : is_chat_(options.is_chat), with_token_ids_(options.with_token_ids) {
  append_json_string(role_json_, options.role);
  const auto prefix = [&](std::string_view object) {
    std::string text = R"({"id":")";
    text += is_chat_ ? "chatcmpl-" : "cmpl-";
    std::string id;
    append_json_string(id, options.id);
    text.append(id, 1);
    text += R"(,"object":")";
    text += object;
    text += R"(","created":)";
    append_integer(text, options.created);
    text += R"(,"model":)";
    append_json_string(text, options.model);
    text += R"(,"choices":[)";
    return text;
  };
  chunk_prefix_ = "data: " + prefix(is_chat_ ? "chat.completion.chunk" : "text_completion");
  whole_prefix_ = prefix(is_chat_ ? "chat.completion" : "text_completion");
}

void ReplyText::append_role(std::string& out, uint32_t index,
                            const std::vector<int32_t>& prompt_token_ids) const {
  out += chunk_prefix_;
  out += R"({"index":)";
  append_integer(out, index);
  out += R"(,"delta":{"role":)";
  out += role_json_;
  out += R"(,"content":""},"logprobs":null,"finish_reason":null}])";
  if (with_token_ids_) {
    out += R"(,"prompt_token_ids":)";
    append_integers(out, prompt_token_ids);
  }
  out += "}\n\n";
}

void ReplyText::append_chunk(std::string& out, uint32_t index, const ChoiceDelta& delta,
                             const Usage* usage,
                             const std::vector<int32_t>* prompt_token_ids) const {
  out += chunk_prefix_;
  out += R"({"index":)";
  append_integer(out, index);
  if (is_chat_) {
    out += R"(,"delta":{"content":)";
    append_json_string(out, delta.text);
    out += '}';
  } else {
    out += R"(,"text":)";
    append_json_string(out, delta.text);
  }
  out += R"(,"logprobs":)";
  delta.logprobs.append_json(out, is_chat_);
  out += R"(,"finish_reason":)";
  out += finish_reason_json(delta.finish_reason);
  out += R"(,"stop_reason":)";
  out += delta.stop_reason_json;
  if (with_token_ids_) {
    out += R"(,"token_ids":)";
    append_integers(out, delta.token_ids);
    if (prompt_token_ids != nullptr && !is_chat_) {
      out += R"(,"prompt_token_ids":)";
      append_integers(out, *prompt_token_ids);
    }
  }
  out += "}]";
  if (usage != nullptr) {
    out += R"(,"usage":)";
    append_usage_object(out, *usage);
  }
  out += "}\n\n";
}

void ReplyText::append_usage(std::string& out, const Usage& usage) const {
  out += chunk_prefix_;
  out += R"(],"usage":)";
  append_usage_object(out, usage);
  out += "}\n\n";
}

void ReplyText::append_error(std::string& out, std::string_view body) {
  out += "data: ";
  out += body;
  out += "\n\n";
}

void ReplyText::append_whole_choice(std::string& out, uint32_t index,
                                    const WholeChoice& choice) const {
  const ChoiceDelta& joined = choice.joined;
  out += R"({"index":)";
  append_integer(out, index);
  if (is_chat_) {
    out += R"(,"message":{"role":)";
    out += role_json_;
    out += R"(,"content":)";
    append_json_string(out, joined.text);
    out += R"(,"refusal":null})";
  } else {
    out += R"(,"text":)";
    append_json_string(out, joined.text);
  }
  out += R"(,"logprobs":)";
  joined.logprobs.append_json(out, is_chat_);
  out += R"(,"finish_reason":)";
  out += finish_reason_json(joined.finish_reason);
  out += R"(,"stop_reason":)";
  out += joined.stop_reason_json;
  if (with_token_ids_) {
    out += R"(,"token_ids":)";
    append_integers(out, joined.token_ids);
  }
  if (!is_chat_) append_prompt(out, choice);
  out += '}';
}

void ReplyText::append_prompt(std::string& out, const WholeChoice& choice) const {
  if (!choice.joined.prompt_logprobs.empty()) {
    out += R"(,"prompt_logprobs":[)";
    out += choice.joined.prompt_logprobs;
    out += ']';
  }
  if (with_token_ids_) {
    out += R"(,"prompt_token_ids":)";
    append_integers(out, choice.prompt_token_ids);
  }
}

std::string ReplyText::whole(const std::vector<WholeChoice>& choices, const Usage& usage) const {
  std::string out = whole_prefix_;
  for (uint32_t i = 0; i < choices.size(); ++i) {
    if (i > 0) out += ',';
    append_whole_choice(out, i, choices[i]);
  }
  out += R"(],"usage":)";
  append_usage_object(out, usage);
  if (is_chat_ && !choices.empty()) append_prompt(out, choices.front());
  out += '}';
  return out;
}

}  // namespace trireme::api
