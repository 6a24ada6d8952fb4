// A model's chat template: messages to the prompt the model was trained on.
//
// Semantics of Hugging Face's apply_chat_template: Jinja with trim_blocks, lstrip_blocks and loop
// controls, Python's methods of strings and dicts, `tojson` as json.dumps(ensure_ascii=False),
// raise_exception, strftime_now, the special tokens as variables, `{% generation %}` ignored, and
// "tool_use" / "default" among named templates. Known to differ: the `~` operator writes true,
// false and none in small letters.
//
// Immutable after load(); any number of threads may render at a time. A rendering is bounded in
// steps, nesting and text, so that messages cannot stall a thread. The memory that a template
// itself asks for is not bounded: take one from a request only from whom you trust.
//
// Errors: NotFound (no template, or the file is not there), DataLoss (the model's file is broken),
// InvalidArgument (bad Jinja, messages the template refuses, with its own words).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

struct TriremeTextTemplate;

namespace trireme::text {

struct ChatPrompt {
  std::string_view messages_json;               // array of objects
  std::optional<std::string_view> tools_json;   // array
  std::optional<std::string_view> kwargs_json;  // object: further variables of the template
  std::optional<std::string_view> template_name;
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // excludes add_generation_prompt
  int64_t now_unix_seconds = 0;         // for strftime_now, told in local time
};

class ChatTemplate {
 public:
  // The model's own: chat_template.jinja and additional_chat_templates/, or "chat_template" in
  // tokenizer_config.json or chat_template.json.
  [[nodiscard]] static StatusOr<ChatTemplate> load(const std::string& directory);

  // The template given; only the special tokens come from the directory.
  [[nodiscard]] static StatusOr<ChatTemplate> load_with_source(const std::string& directory,
                                                               std::string_view source);

  // What --chat-template takes: a file, or else a template in one line (it then holds a brace).
  [[nodiscard]] static StatusOr<ChatTemplate> load_with_option(const std::string& directory,
                                                               const std::string& path_or_source);

  [[nodiscard]] StatusOr<std::string> render(const ChatPrompt& prompt) const;

  // The Jinja text of the named or the default template, for looking at what it reads.
  [[nodiscard]] std::optional<std::string_view> source(
      std::optional<std::string_view> name = std::nullopt) const;

 private:
  struct Free {
    void operator()(TriremeTextTemplate* chat_template) const noexcept;
  };

  explicit ChatTemplate(TriremeTextTemplate* chat_template) : template_(chat_template) {}

  std::unique_ptr<TriremeTextTemplate, Free> template_;
};

}  // namespace trireme::text
