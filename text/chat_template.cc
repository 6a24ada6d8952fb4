#include "text/chat_template.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "text/c_interface.h"

namespace trireme::text {
namespace {

constexpr TriremeTextView kNotGiven{nullptr, 0};

TriremeTextView to_view(const std::optional<std::string_view>& text) {
  return text.has_value() ? text::to_view(*text) : kNotGiven;
}

StatusOr<TriremeTextTemplate*> load_template(const std::string& directory,
                                             std::optional<std::string_view> source) {
  const CrateCall call;
  TriremeTextTemplate* chat_template = nullptr;
  OwnedBytes message;
  const int32_t code = trireme_text_template_load(text::to_view(directory), to_view(source),
                                                  &chat_template, message.out());
  TRIREME_RETURN_IF_ERROR(to_status(code, message));
  return chat_template;
}

}  // namespace

void ChatTemplate::Free::operator()(TriremeTextTemplate* chat_template) const noexcept {
  const CrateCall call;
  trireme_text_template_free(chat_template);
}

StatusOr<ChatTemplate> ChatTemplate::load(const std::string& directory) {
  TRIREME_ASSIGN_OR_RETURN(TriremeTextTemplate * loaded, load_template(directory, std::nullopt));
  return ChatTemplate(loaded);
}

StatusOr<ChatTemplate> ChatTemplate::load_with_source(const std::string& directory,
                                                      std::string_view source) {
  TRIREME_ASSIGN_OR_RETURN(TriremeTextTemplate * loaded, load_template(directory, source));
  return ChatTemplate(loaded);
}

StatusOr<ChatTemplate> ChatTemplate::load_with_option(const std::string& directory,
                                                      const std::string& path_or_source) {
  std::error_code ignored;  // Of template text, for instance: too long for a path.
  const auto status = std::filesystem::status(path_or_source, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    return error(StatusCode::kInvalidArgument, "chat template %s: is not a regular file",
                 path_or_source);
  }
  std::ifstream file(path_or_source, std::ios::binary);
  if (file) {
    const std::string source{std::istreambuf_iterator<char>(file), {}};
    if (!file.bad()) return load_with_source(directory, source);
  }
  if (path_or_source.find_first_of("{}\n") != std::string::npos) {
    return load_with_source(directory, path_or_source);
  }
  return error(StatusCode::kNotFound,
               "chat template %s: cannot read the file (%s), and it is no template text either",
               path_or_source, std::strerror(errno));
}

StatusOr<std::string> ChatTemplate::render(const ChatPrompt& prompt) const {
  const TriremeTextRender request{
      .messages = text::to_view(prompt.messages_json),
      .tools = to_view(prompt.tools_json),
      .kwargs = to_view(prompt.kwargs_json),
      .name = to_view(prompt.template_name),
      .add_generation_prompt = prompt.add_generation_prompt,
      .continue_final_message = prompt.continue_final_message,
      .now_unix_seconds = prompt.now_unix_seconds,
  };
  const CrateCall call;
  OwnedBytes text;
  OwnedBytes message;
  const int32_t code =
      trireme_text_template_render(template_.get(), &request, text.out(), message.out());
  TRIREME_RETURN_IF_ERROR(to_status(code, message));
  return text.to_string();
}

std::optional<std::string_view> ChatTemplate::source(std::optional<std::string_view> name) const {
  const TriremeTextView found = trireme_text_template_source(template_.get(), to_view(name));
  if (found.data == nullptr) return std::nullopt;
  return from_view(found);
}

}  // namespace trireme::text
