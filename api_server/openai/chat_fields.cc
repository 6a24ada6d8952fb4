#include "api_server/openai/request_fields.h"
#include "common/json_text.h"

namespace trireme::api {
namespace {

using Target = const FieldTarget&;
using Value = const JsonValue&;
using Name = std::string_view;

// Text parts become one string with a line each, as vLLM does for templates that take strings.
Status append_content(Value content, std::string& out) {
  constexpr Name kField = "messages.content";
  if (content.is_string() || content.is_null()) {
    out += json_text(content);
    return {};
  }
  simdjson::dom::array parts;
  if (content.get_array().get(parts) != simdjson::SUCCESS) {
    return wrong_type(kField, "a string or an array of parts", content);
  }
  std::string text;
  for (const JsonValue part : parts) {
    std::string_view type;
    std::string_view piece;
    if (part.at_key("type").get_string().get(type) != simdjson::SUCCESS) {
      return field_error(kField, "each part needs a \"type\"");
    }
    if (type != "text" && type != "input_text" && type != "output_text") {
      return field_error(kField,
                         absl::StrFormat("parts of type \"%s\" are not supported, only text",
                                         std::string(type.substr(0, 40))));
    }
    if (part.at_key("text").get_string().get(piece) != simdjson::SUCCESS) {
      return field_error(kField, "a text part needs a string \"text\"");
    }
    if (!text.empty()) text += '\n';
    text += piece;
  }
  append_json_string(out, text);
  return {};
}

Status append_message(Value message, std::string& out) {
  simdjson::dom::object object;
  if (message.get_object().get(object) != simdjson::SUCCESS) {
    return wrong_type("messages", "an array of objects", message);
  }
  std::string_view role;
  if (message.at_key("role").get_string().get(role) != simdjson::SUCCESS) {
    return field_error("messages.role", "each message needs a role, a string");
  }
  out += '{';
  bool is_first = true;
  for (const auto [key, value] : object) {
    if (!is_first) out += ',';
    is_first = false;
    append_json_string(out, key);
    out += ':';
    if (key == "content") {
      TRIREME_RETURN_IF_ERROR(append_content(value, out));
    } else {
      out += json_text(value);
    }
  }
  out += '}';
  return {};
}

Status read_messages(Name field, Value value, Target target) {
  simdjson::dom::array messages;
  if (value.get_array().get(messages) != simdjson::SUCCESS) {
    return wrong_type(field, "an array of objects", value);
  }
  if (messages.size() == 0) return field_error(field, "must not be empty");
  if (messages.size() > target.limits.messages_max) {
    return field_error(field, absl::StrFormat("at most %u messages, got %u",
                                              target.limits.messages_max, messages.size()));
  }
  std::string& out = target.request.messages_json;
  out.clear();
  out += '[';
  for (const JsonValue message : messages) {
    if (out.size() > 1) out += ',';
    TRIREME_RETURN_IF_ERROR(append_message(message, out));
  }
  out += ']';
  return {};
}

Status read_tools(Name field, Value value, Target target) {
  if (!value.is_array()) return wrong_type(field, "an array", value);
  if (simdjson::dom::array(value).size() == 0) return field_error(field, "must not be empty");
  target.request.tools_json = json_text(value);
  return {};
}

Status read_tool_choice(Name field, Value value, Target target) {
  std::string_view choice;
  if (value.get_string().get(choice) != simdjson::SUCCESS ||
      (choice != "none" && choice != "auto")) {
    return field_error(field, "only \"none\" and \"auto\" are supported");
  }
  target.request.wants_tool_calls = choice == "auto";
  return {};
}

Status read_kwargs(Name field, Value value, Target target) {
  if (!value.is_object()) return wrong_type(field, "an object", value);
  target.request.kwargs_json = json_text(value);
  return {};
}

Status read_chat_template(Name field, Value value, Target target) {
  if (!target.limits.trusts_chat_template) {
    return field_error(field,
                       "is refused: the server was started without --trust-request-chat-template");
  }
  return read_string(field, value, target.request.chat_template);
}

Status read_top_logprobs(Name field, Value value, Target target) {
  return read_int(field, value, -1, std::numeric_limits<int32_t>::max(),
                  target.request.top_logprobs);
}

Status read_completion_tokens_max(Name field, Value value, Target target) {
  uint32_t tokens = 0;
  TRIREME_RETURN_IF_ERROR(read_int(field, value, 1, std::numeric_limits<int32_t>::max(), tokens));
  target.request.completion_tokens_max = tokens;
  return {};
}

constexpr RequestField kChatFields[] = {
    {"messages", read_messages},
    {"echo",
     [](Name field, Value value, Target) {
       bool wanted = false;
       TRIREME_RETURN_IF_ERROR(read_bool(field, value, wanted));
       return wanted ? field_error(field, "is not supported for chats") : Status();
     }},
    {"max_completion_tokens", read_completion_tokens_max},
    {"logprobs",
     [](Name field, Value value, Target target) {
       return read_bool(field, value, target.request.wants_logprobs);
     }},
    {"top_logprobs", read_top_logprobs},
    {"tools", read_tools},
    {"tool_choice", read_tool_choice},
    {"chat_template_kwargs", read_kwargs},
    {"chat_template", read_chat_template},
    {"add_generation_prompt",
     [](Name field, Value value, Target target) {
       return read_bool(field, value, target.request.add_generation_prompt);
     }},
    {"continue_final_message",
     [](Name field, Value value, Target target) {
       return read_bool(field, value, target.request.continue_final_message);
     }},
};

}  // namespace

std::span<const RequestField> chat_fields() { return kChatFields; }

}  // namespace trireme::api
