// The module's functions over stdin and stdout, for conformance_test.py.
//
//   text_tool MODEL_DIR
//   -> encode ADD_SPECIAL N            and N bytes of text
//   -> decode SKIP_SPECIAL N           and N bytes: ids, decimal, separated by spaces
//   -> stream SKIP_SPECIAL N           the same, through a Detokenizer
//   -> render GENERATE CONTINUE N T K  and N bytes of messages, T of tools, K of kwargs (-1: none)
//   <- ok N  or  error CODE N          and N bytes: ids, text or message
//
// A model without a tokenizer or a template answers with the error of loading it.
#include <cstdint>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "common/status.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace trireme::text {
namespace {

std::optional<std::string> read_bytes(int64_t size) {
  if (size < 0) return std::nullopt;
  std::string bytes(static_cast<size_t>(size), '\0');
  std::cin.read(bytes.data(), static_cast<std::streamsize>(size));
  return bytes;
}

std::vector<int32_t> parse_ids(const std::string& text) {
  std::istringstream in(text);
  std::vector<int32_t> ids;
  for (int32_t id = 0; in >> id;) ids.push_back(id);
  return ids;
}

StatusOr<std::string> encode(const Tokenizer& tokenizer, std::istream& arguments) {
  bool add_special = false;
  int64_t size = 0;
  arguments >> add_special >> size;
  TRIREME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           tokenizer.encode(read_bytes(size).value_or(""), add_special));
  std::ostringstream out;
  for (const int32_t id : ids) out << id << ' ';
  return out.str();
}

StatusOr<std::string> decode(const Tokenizer& tokenizer, std::istream& arguments) {
  bool skip_special = false;
  int64_t size = 0;
  arguments >> skip_special >> size;
  return tokenizer.decode(parse_ids(read_bytes(size).value_or("")), skip_special);
}

StatusOr<std::string> stream(const Tokenizer& tokenizer, std::istream& arguments) {
  bool skip_special = false;
  int64_t size = 0;
  arguments >> skip_special >> size;
  Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip_special});
  std::string text;
  for (const int32_t id : parse_ids(read_bytes(size).value_or(""))) text += detokenizer.push(id);
  text += detokenizer.flush();
  return text;
}

StatusOr<std::string> render(const ChatTemplate& chat_template, std::istream& arguments) {
  ChatPrompt prompt;
  int64_t messages_size = 0;
  int64_t tools_size = 0;
  int64_t kwargs_size = 0;
  arguments >> prompt.add_generation_prompt >> prompt.continue_final_message >> messages_size >>
      tools_size >> kwargs_size;
  const std::optional<std::string> messages = read_bytes(messages_size);
  const std::optional<std::string> tools = read_bytes(tools_size);
  const std::optional<std::string> kwargs = read_bytes(kwargs_size);
  prompt.messages_json = messages.has_value() ? std::string_view(*messages) : "";
  if (tools.has_value()) prompt.tools_json = *tools;
  if (kwargs.has_value()) prompt.kwargs_json = *kwargs;
  return chat_template.render(prompt);
}

void answer(const StatusOr<std::string>& result) {
  if (result.ok()) {
    std::cout << "ok " << result->size() << '\n' << *result << std::flush;
    return;
  }
  const std::string message(result.status().message());
  std::cout << "error " << result.status().raw_code() << ' ' << message.size() << '\n'
            << message << std::flush;
}

int serve(const std::string& directory) {
  const StatusOr<Tokenizer> tokenizer = Tokenizer::load(directory);
  const StatusOr<ChatTemplate> chat_template = ChatTemplate::load(directory);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream arguments(line);
    std::string command;
    arguments >> command;
    if (command == "render") {
      answer(chat_template.ok() ? render(*chat_template, arguments) : chat_template.status());
    } else if (!tokenizer.ok()) {
      answer(tokenizer.status());
    } else if (command == "encode") {
      answer(encode(*tokenizer, arguments));
    } else if (command == "decode") {
      answer(decode(*tokenizer, arguments));
    } else if (command == "stream") {
      answer(stream(*tokenizer, arguments));
    } else {
      answer(error(StatusCode::kInvalidArgument, "no such command: %s", command));
    }
  }
  return 0;
}

}  // namespace
}  // namespace trireme::text

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: text_tool MODEL_DIR\n";
    return 2;
  }
  return trireme::text::serve(argv[1]);
}
