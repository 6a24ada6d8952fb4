// Goal: errors, bounds and choices of chat templates; what they render is compared with Jinja in
// conformance_test.py.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace trireme::text {
namespace {

constexpr std::string_view kMessages = R"([{"role": "user", "content": "Hi"}])";

class ChatTemplateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    directory_ = ::testing::TempDir() + "trireme_chat_" + test;
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(
        std::filesystem::path(directory_ + "/" + name).parent_path());
    std::ofstream(directory_ + "/" + name) << text;
  }

  [[nodiscard]] StatusOr<std::string> render(const std::string& source, ChatPrompt prompt) const {
    TRIREME_ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                             ChatTemplate::load_with_source(directory_, source));
    return chat_template.render(prompt);
  }

  [[nodiscard]] StatusOr<std::string> render(const std::string& source) const {
    return render(source, {.messages_json = kMessages});
  }

  std::string directory_;
};

TEST_F(ChatTemplateTest, a_template_file_wins_over_the_configuration) {
  write("tokenizer_config.json", R"({"chat_template": "config", "eos_token": {"content": "<e>"}})");
  EXPECT_EQ(ChatTemplate::load(directory_)->render({.messages_json = kMessages}).value(), "config");
  write("chat_template.jinja", "file {{ eos_token }}");
  EXPECT_EQ(ChatTemplate::load(directory_)->render({.messages_json = kMessages}).value(),
            "file <e>");
}

TEST_F(ChatTemplateTest, tools_choose_the_template_named_for_them) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "plain"},
                              {"name": "tool_use", "template": "tools"},
                              {"name": "rag", "template": "rag"}]})");
  const ChatTemplate chat_template = ChatTemplate::load(directory_).value();
  EXPECT_EQ(chat_template.render({.messages_json = kMessages}).value(), "plain");
  EXPECT_EQ(chat_template.render({.messages_json = kMessages, .tools_json = "[]"}).value(),
            "tools");
  EXPECT_EQ(chat_template.render({.messages_json = kMessages, .template_name = "rag"}).value(),
            "rag");
  const auto unknown = chat_template.render({.messages_json = kMessages, .template_name = "x"});
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(chat_template.source("rag"), "rag");
  EXPECT_EQ(chat_template.source("x"), std::nullopt);
}

TEST_F(ChatTemplateTest, more_templates_lie_in_a_folder) {
  write("chat_template.jinja", "plain");
  write("additional_chat_templates/tool_use.jinja", "tools");
  const ChatTemplate chat_template = ChatTemplate::load(directory_).value();
  EXPECT_EQ(chat_template.render({.messages_json = kMessages, .tools_json = "[]"}).value(),
            "tools");
}

TEST_F(ChatTemplateTest, a_model_without_a_template_is_not_found) {
  const auto chat_template = ChatTemplate::load(directory_);
  EXPECT_EQ(chat_template.status().code(), StatusCode::kNotFound);
  EXPECT_NE(chat_template.status().message().find("--chat-template"), std::string::npos);
}

TEST_F(ChatTemplateTest, the_option_takes_a_file_or_a_template) {
  write("mine.jinja", "from the file");
  const auto from_file = ChatTemplate::load_with_option(directory_, directory_ + "/mine.jinja");
  EXPECT_EQ(from_file->render({.messages_json = kMessages}).value(), "from the file");
  const auto in_line = ChatTemplate::load_with_option(directory_, "{{ messages[0].content }}");
  EXPECT_EQ(in_line->render({.messages_json = kMessages}).value(), "Hi");
  const auto missing = ChatTemplate::load_with_option(directory_, "/no/such.jinja");
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
}

TEST_F(ChatTemplateTest, bad_jinja_is_refused_with_its_line) {
  const auto chat_template = ChatTemplate::load_with_source(directory_, "a\n{% if %}");
  EXPECT_EQ(chat_template.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(chat_template.status().message().find(":2"), std::string::npos)
      << chat_template.status();
}

TEST_F(ChatTemplateTest, a_filter_or_test_that_nobody_knows_is_refused_when_it_is_loaded) {
  for (const char* const source : {"a\n{% if false %}{{ x | nonsense }}{% endif %}",
                                   "a\n{% macro m() %}{{ x is nonsense }}{% endmacro %}"}) {
    const auto chat_template = ChatTemplate::load_with_source(directory_, source);
    EXPECT_EQ(chat_template.status().code(), StatusCode::kInvalidArgument) << source;
    EXPECT_NE(chat_template.status().message().find("\"nonsense\" (line 2)"), std::string::npos)
        << chat_template.status();
  }
}

TEST_F(ChatTemplateTest, percent_formats_text_as_in_python) {
  EXPECT_EQ(render("{{ '%s is %d' % (messages[0].role, 2 + 1) }}").value(), "user is 3");
  EXPECT_EQ(render("{{ 'a ' ~ '<%s>' % messages[0].content | upper ~ '!' }}").value(), "a <HI>!");
  EXPECT_EQ(render("{% set x = '%05.1f' % 2.25 %}{{ x }} {{ 7 % 4 }} {{ '50% % off' }}").value(),
            "002.2 3 50% % off");
}

TEST_F(ChatTemplateTest, items_of_a_mapping_are_tuples_and_words_are_counted) {
  const std::string map = "{'b': 1, 'a': 'x'}";
  EXPECT_EQ(render("{% for i in " + map + "|dictsort %}{{ i }}{{ i[0] }}{% endfor %}").value(),
            "('a', 'x')a('b', 1)b");
  EXPECT_EQ(render("{% for k, v in " + map + ".items() %}{{ k }}={{ v }} {% endfor %}").value(),
            "b=1 a=x ");
  EXPECT_EQ(render("{{ " + map + ".items() | list }}").value(), "[('b', 1), ('a', 'x')]");
  EXPECT_EQ(render("{{ \"it's two-fold, a_b\" | wordcount }}").value(), "5");
  EXPECT_EQ(
      render("{% set c = joiner(', ') %}{% for i in [1, 2] %}{{ c() }}{{ i }}{% endfor %}").value(),
      "1, 2");
}

TEST_F(ChatTemplateTest, what_the_template_raises_is_the_message) {
  const auto text = render(
      "{% macro m() %}{{ raise_exception('no ' ~ messages[0].role) }}{% endmacro %}{{ m() }}");
  EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(text.status().message(), "no user");
}

TEST_F(ChatTemplateTest, kwargs_are_variables_and_win_over_special_tokens) {
  write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(render("{{ bos_token }}{{ enable_thinking }}",
                   {.messages_json = kMessages,
                    .kwargs_json = R"({"enable_thinking": false, "bos_token": "<b>"})"})
                .value(),
            "<b>False");
}

TEST_F(ChatTemplateTest, the_time_is_the_one_told) {
  ASSERT_EQ(setenv("TZ", "UTC", 1), 0);
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}",
                   {.messages_json = kMessages, .now_unix_seconds = 86400})
                .value(),
            "02 Jan 1970");
}

TEST_F(ChatTemplateTest, the_last_message_can_be_continued) {
  const std::string source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}";
  ChatPrompt prompt{.messages_json = R"([{"role": "user", "content": "Hi"},
                                         {"role": "assistant", "content": "It is "}])",
                    .add_generation_prompt = false,
                    .continue_final_message = true};
  EXPECT_EQ(render(source, prompt).value(), "<user>Hi</><assistant>It is");
  prompt.add_generation_prompt = true;
  EXPECT_EQ(render(source, prompt).status().code(), StatusCode::kInvalidArgument);
  prompt.add_generation_prompt = false;
  prompt.messages_json = "[]";
  EXPECT_EQ(render(source, prompt).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(ChatTemplateTest, wrong_input_is_refused_by_name) {
  for (const std::string messages : {"", "{", "{}", "[1]", "\xFF", "[{\"role\": 1e999}]"}) {
    const auto text = render("x", {.messages_json = messages});
    EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument) << messages;
    EXPECT_NE(text.status().message().find("messages"), std::string::npos) << text.status();
  }
  const auto kwargs = render("x", {.messages_json = kMessages, .kwargs_json = "[]"});
  EXPECT_NE(kwargs.status().message().find("chat_template_kwargs"), std::string::npos);
}

TEST_F(ChatTemplateTest, deep_messages_are_refused) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  EXPECT_EQ(render("{{ messages }}", {.messages_json = deep}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(ChatTemplateTest, a_template_without_end_is_stopped) {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const std::string recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
  const std::string output = "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}";
  const std::string nesting =
      "{% set n = namespace(x=[]) %}{% for a in range(999) %}{% set n.x = [n.x] %}{% endfor %}{{ "
      "n.x }}";
  for (const std::string& source : {loops, recursion, output, nesting}) {
    EXPECT_EQ(render(source).status().code(), StatusCode::kInvalidArgument) << source;
  }
}

TEST_F(ChatTemplateTest, several_threads_render_at_once) {
  const ChatTemplate chat_template =
      ChatTemplate::load_with_source(directory_, "{{ messages | map(attribute='content') | list }}")
          .value();
  std::vector<std::string> texts(4);
  std::vector<std::jthread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&chat_template, &text] {
      for (int i = 0; i < 100; ++i)
        text = chat_template.render({.messages_json = kMessages}).value();
    });
  }
  threads.clear();
  EXPECT_EQ(texts, std::vector<std::string>(4, "['Hi']"));
}

}  // namespace
}  // namespace trireme::text
