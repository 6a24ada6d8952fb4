// Goal: what a model said says the same again when it is read. Fed the first tokens of an answer
// behind its prompt, a request gets the rest of the answer; so does one that another engine had
// begun; and what such a prompt's tokens are worth is, bit by bit, what they were sampled with.
// Method: every architecture and format of the tests, one engine that answers and keeps what it
// computed, and one that computes all of it anew in small pieces.
#include <gtest/gtest.h>

#include "tests/numerics/engine_model_for_test.h"

namespace trireme {
namespace {

constexpr uint32_t kPromptTokens = 11;
constexpr uint32_t kOutputTokens = 40;
// A token, a whole block with the prompt before it, all but one.
constexpr uint32_t kFed[] = {1, 21, 39};

std::vector<ModelCase> all_cases() {
  std::vector<ModelCase> cases;
  for (const std::string& name : worker::golden_names()) cases.push_back({.name = name});
  for (const std::string& name : worker::golden_names(kQuantizedFolder)) {
    cases.push_back({.name = name});
  }
  for (const char* name : {"llama", "mistral", "gemma2", "qwen3_moe", "deepseek_v2"}) {
    cases.push_back({.name = name, .kv_cache_dtype = "int8"});
  }
  for (const char* name : {"llama", "mixtral"}) {
    for (const char* method : {"int8", "int4"}) {
      cases.push_back({.name = name, .quantization = method});
    }
  }
  return cases;
}

class FedAgain : public testing::TestWithParam<ModelCase> {
 protected:
  // A greedy one and two that are drawn.
  [[nodiscard]] std::vector<wire::AddRequest> questions() const {
    Random random(3);
    std::vector<wire::AddRequest> requests;
    for (const float temperature : {0.0F, 0.8F, 1.5F}) {
      wire::AddRequest request;
      request.prompt_token_ids = model_.random_tokens(random, kPromptTokens);
      request.sampling.temperature = temperature;
      request.sampling.seed = random.next();
      request.sampling.output_tokens_max = kOutputTokens;
      request.sampling.logprobs = 3;
      requests.push_back(std::move(request));
    }
    return requests;
  }

  static void number(std::vector<wire::AddRequest>& requests, uint64_t first) {
    for (wire::AddRequest& request : requests) request.key = RequestKey{first++};
  }

  // Asks all at once; their answers.
  static std::vector<Answer> ask(EngineForTest& engine,
                                 const std::vector<wire::AddRequest>& requests) {
    for (const wire::AddRequest& request : requests) engine.add(request);
    engine.run();
    std::vector<Answer> answers;
    for (const wire::AddRequest& request : requests) {
      answers.push_back(engine.answers().at(request.key.value));
    }
    return answers;
  }

  const EngineModel model_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, FedAgain, testing::ValuesIn(all_cases()), name_of_case);

struct Again {
  std::size_t question = 0;
  uint32_t fed = 0;
  bool tells_prompt = false;  // Its logprobs are wanted.
  bool is_resumed = false;    // The tokens count as output.
};

std::vector<Again> all_ways(std::size_t question_count) {
  std::vector<Again> ways;
  for (std::size_t question = 0; question < question_count; ++question) {
    for (const uint32_t fed : kFed) {
      ways.push_back({.question = question, .fed = fed});
      ways.push_back({.question = question, .fed = fed, .tells_prompt = true});
      ways.push_back({.question = question, .fed = fed, .is_resumed = true});
    }
  }
  return ways;
}

wire::AddRequest request_of(const Again& again, wire::AddRequest request, const Answer& answer) {
  const std::vector<int32_t> fed(answer.tokens.begin(), answer.tokens.begin() + again.fed);
  if (again.is_resumed) {
    request.output_token_ids = fed;
    return request;
  }
  request.prompt_token_ids.insert(request.prompt_token_ids.end(), fed.begin(), fed.end());
  request.sampling.output_tokens_max -= again.fed;
  if (again.tells_prompt) request.sampling.prompt_logprobs = request.sampling.logprobs;
  return request;
}

void expect_the_rest(const Again& again, const Answer& got, const Answer& answer) {
  SCOPED_TRACE(testing::Message() << "question " << again.question << ", fed " << again.fed
                                  << (again.tells_prompt ? ", its prompt told" : "")
                                  << (again.is_resumed ? ", resumed" : ""));
  Answer rest = answer;
  rest.tokens.erase(rest.tokens.begin(), rest.tokens.begin() + again.fed);
  rest.logprobs.erase(rest.logprobs.begin(), rest.logprobs.begin() + again.fed);
  // The answer's prompt is not told; of this one's, the tokens that were fed.
  Answer told = got;
  told.prompt_logprobs.clear();
  expect_equal(told, rest);
  if (!again.tells_prompt) return;
  ASSERT_EQ(got.prompt_logprobs.size(), kPromptTokens - 1 + again.fed);
  const std::vector<wire::TokenLogprobs> of_fed(got.prompt_logprobs.begin() + kPromptTokens - 1,
                                                got.prompt_logprobs.end());
  const std::vector<wire::TokenLogprobs> sampled(answer.logprobs.begin(),
                                                 answer.logprobs.begin() + again.fed);
  EXPECT_TRUE(of_fed == sampled) << "bits of logprobs";
}

TEST_P(FedAgain, an_answer_goes_on_as_it_did) {
  auto asked = questions();
  number(asked, 0);
  engine::SchedulerConfig config = EngineModel::config(30);
  EngineForTest warm(config, model_.parts(1));
  const std::vector<Answer> answers = ask(warm, asked);
  for (const Answer& answer : answers) ASSERT_EQ(answer.tokens.size(), kOutputTokens);

  const std::vector<Again> ways = all_ways(asked.size());
  std::vector<wire::AddRequest> again;
  for (const Again& way : ways) {
    again.push_back(request_of(way, asked[way.question], answers[way.question]));
  }
  number(again, asked.size());
  config.sequences_max = 7;
  config.batched_tokens_max = 13;
  config.kv.prefix_caching = false;
  EngineForTest cold(config, model_.parts(2));
  for (EngineForTest* engine : {&warm, &cold}) {
    SCOPED_TRACE(engine == &warm ? "where it was answered" : "computed anew, in small pieces");
    const std::vector<Answer> got = ask(*engine, again);
    for (std::size_t i = 0; i < ways.size(); ++i) {
      expect_the_rest(ways[i], got[i], answers[ways[i].question]);
    }
  }
  EXPECT_GT(warm.stats().prefix_hit_tokens, 0U) << "KV of decoding is found by prompts";
}

}  // namespace
}  // namespace trireme
