#include "cli/bench/request_body.h"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "common/json_text.h"

namespace trireme::bench {
namespace {

// Short and common enough to be a token each, with the space before, in most vocabularies.
constexpr std::array<std::string_view, 32> kWords = {
    "the",  "and",  "of", "to",  "in",  "is",   "that",  "for", "it",  "as",  "was",
    "with", "be",   "by", "on",  "not", "he",   "his",   "but", "at",  "are", "this",
    "have", "from", "or", "had", "an",  "they", "which", "one", "you", "were"};

// Fields in the order in which they are written; a later value of a name replaces the earlier.
class Fields {
 public:
  void set(std::string_view name, std::string json) {
    const auto found = std::find_if(fields_.begin(), fields_.end(),
                                    [name](const auto& field) { return field.first == name; });
    if (found != fields_.end()) {
      found->second = std::move(json);
    } else {
      fields_.emplace_back(name, std::move(json));
    }
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const auto& [name, json] : fields_) {
      append_json_string(out, name);
      out += ":" + json + ",";
    }
    return out;
  }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

void append_ids(std::string& out, std::span<const uint32_t> ids) {
  out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    out += std::to_string(ids[i]);
  }
  out += ']';
}

std::string words(std::span<const uint32_t> ids) {
  std::string out;
  for (const uint32_t id : ids) {
    if (!out.empty()) out += ' ';
    out += kWords[id % kWords.size()];
  }
  return out;
}

StatusOr<std::vector<std::pair<std::string, std::string>>> object_fields(const std::string& text) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(text).get_object().get(object) != simdjson::SUCCESS) {
    return error(StatusCode::kInvalidArgument, "'%s' is not a JSON object", text);
  }
  std::vector<std::pair<std::string, std::string>> fields;
  for (const auto field : object) {
    fields.emplace_back(std::string(field.key), simdjson::minify(field.value));
  }
  return fields;
}

}  // namespace

StatusOr<RequestBody> RequestBody::make(const BodyOptions& options) {
  Fields fields;
  fields.set("model", json_string(options.model));
  fields.set("stream", options.is_stream ? "true" : "false");
  if (options.is_stream) fields.set("stream_options", R"({"include_usage":true})");
  if (options.ignores_eos) fields.set("ignore_eos", "true");
  if (options.choices > 1) fields.set("n", std::to_string(options.choices));
  for (const auto& [name, json] : options.parameters) fields.set(name, json);
  bool has_prompt = false;
  bool has_length = false;
  if (!options.extra_body.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const auto extra, object_fields(options.extra_body));
    for (const auto& [name, json] : extra) {
      fields.set(name, json);
      has_prompt = has_prompt || name == "prompt" || name == "messages";
      has_length = has_length || name == "max_tokens" || name == "max_completion_tokens";
    }
  }
  RequestBody body(fields.text());
  body.is_chat_ = options.is_chat;
  body.has_prompt_ = has_prompt;
  body.has_length_ = has_length;
  return body;
}

std::string RequestBody::with(const std::string& prompt, uint32_t output_len) const {
  std::string out = "{" + common_;
  if (!has_length_) {
    out += is_chat_ ? "\"max_completion_tokens\":" : "\"max_tokens\":";
    out += std::to_string(output_len) + ",";
  }
  if (!has_prompt_) out += (is_chat_ ? "\"messages\":" : "\"prompt\":") + prompt + ",";
  out.back() = '}';
  return out;
}

std::string RequestBody::text(std::span<const uint32_t> prompt, uint32_t output_len) const {
  std::string json;
  if (has_prompt_) return with(json, output_len);
  if (is_chat_) {
    json = absl::StrFormat(R"([{"role":"user","content":%s}])", json_string(words(prompt)));
  } else {
    append_ids(json, prompt);
  }
  return with(json, output_len);
}

std::string RequestBody::batch_text(const std::vector<std::vector<uint32_t>>& prompts,
                                    uint32_t output_len) const {
  std::string json = "[";
  for (const auto& prompt : prompts) {
    if (json.size() > 1) json += ',';
    append_ids(json, prompt);
  }
  return with(json + "]", output_len);
}

}  // namespace trireme::bench
