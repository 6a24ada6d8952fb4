// CPU time of the front end's text work, over the small tokenizers of text/testdata.
//
//   push       one token to text            budget: well under 1 µs
//   push_stop  one token, two stop strings  the same
//   encode     a prompt of about 200 bytes
//   render     a chat template with a system and a user message
//
// Run it from the root of the repository.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/stop_checker.h"
#include "text/tokenizer.h"

namespace trireme::text {
namespace {

constexpr std::string_view kPrompt =
    "The capital of Paris is Berlin. How far is it from Oslo to Zürich? I went to 東京 and then to "
    "Москва! def distance(x, y):\n    return abs(x - y)\nDas Mädchen fährt von Oslo nach Berlin. 😀";
constexpr const char* kKinds[] = {"byte_level", "byte_fallback", "unigram"};

StatusOr<Tokenizer> load(benchmark::State& state) {
  const std::string kind = kKinds[state.range(0)];
  state.SetLabel(kind);
  StatusOr<Tokenizer> tokenizer = Tokenizer::load("text/testdata/" + kind);
  if (!tokenizer.ok()) state.SkipWithError(tokenizer.status().ToString().c_str());
  return tokenizer;
}

void push(benchmark::State& state) {
  const StatusOr<Tokenizer> tokenizer = load(state);
  if (!tokenizer.ok()) return;
  const std::vector<int32_t> ids = tokenizer->encode(kPrompt, false).value();
  Detokenizer detokenizer(*tokenizer);
  for (auto _ : state) {
    for (const int32_t id : ids) benchmark::DoNotOptimize(detokenizer.push(id));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(push)->DenseRange(0, 2);

void push_stop(benchmark::State& state) {
  const StatusOr<Tokenizer> tokenizer = load(state);
  if (!tokenizer.ok()) return;
  const std::vector<int32_t> ids = tokenizer->encode(kPrompt, false).value();
  Detokenizer detokenizer(*tokenizer);
  StopChecker checker({"</s>", "\n\nUser:"}, false);
  for (auto _ : state) {
    for (const int32_t id : ids) benchmark::DoNotOptimize(checker.push(detokenizer.push(id)));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(push_stop)->DenseRange(0, 2);

void encode(benchmark::State& state) {
  const StatusOr<Tokenizer> tokenizer = load(state);
  if (!tokenizer.ok()) return;
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(kPrompt, true));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kPrompt.size()));
}
BENCHMARK(encode)->DenseRange(0, 2);

void render(benchmark::State& state) {
  const StatusOr<ChatTemplate> chat_template = ChatTemplate::load_with_option(
      "text/testdata", "text/testdata/templates/tools_and_thinking.jinja");
  if (!chat_template.ok()) {
    state.SkipWithError(chat_template.status().ToString().c_str());
    return;
  }
  const ChatPrompt prompt{.messages_json =
                              R"([{"role": "system", "content": "Be brief."},
                                  {"role": "user", "content": "The capital of France?"}])"};
  for (auto _ : state) benchmark::DoNotOptimize(chat_template->render(prompt));
}
BENCHMARK(render);

}  // namespace
}  // namespace trireme::text

BENCHMARK_MAIN();
