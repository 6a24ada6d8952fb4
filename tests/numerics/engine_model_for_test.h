// The tiny models of golden/ and golden_quantized/ as engines run them.
#pragma once

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "tests/numerics/engine_for_test.h"
#include "tests/numerics/model_for_test.h"

namespace trireme {

struct ModelCase {
  std::string name;
  std::string kv_cache_dtype = "auto";
  std::string quantization = {};  // On load.
};

inline void PrintTo(const ModelCase& model, std::ostream* out) { *out << model.name; }

[[nodiscard]] inline std::string name_of_case(const testing::TestParamInfo<ModelCase>& test) {
  std::string name = test.param.name;
  if (test.param.kv_cache_dtype != "auto") name += "_kv_" + test.param.kv_cache_dtype;
  if (!test.param.quantization.empty()) name += "_on_load_" + test.param.quantization;
  return name;
}

inline const std::filesystem::path kQuantizedFolder = "tests/numerics/golden_quantized";

// Some of the rules by which a request's tokens are chosen, for a vocabulary of 40 or more.
inline void choose_rules(wire::SamplingParams& sampling, Random& random) {
  const auto token = [&] { return static_cast<int32_t>(random.below(40)); };
  if (random.below(3) == 0) sampling.top_p = 0.8F;
  if (random.below(3) == 0) sampling.top_k = 5;
  if (random.below(4) == 0) sampling.min_p = 0.05F;
  if (random.below(4) == 0) sampling.repetition_penalty = 1.2F;
  if (random.below(4) == 0) sampling.frequency_penalty = 0.4F;
  if (random.below(5) == 0) sampling.logit_bias = {{token(), 3.0F}};
  if (random.below(5) == 0) sampling.bad_words = {{{token()}}, {{token(), token()}}};
  if (random.below(3) == 0) sampling.stop_token_ids = {token(), token()};
  if (random.below(3) == 0) sampling.output_tokens_min = static_cast<uint32_t>(random.below(9));
}

class EngineModel {
 public:
  static constexpr uint32_t kTokensMax = 64;  // Of a sequence: what all of them have positions for.
  static constexpr uint32_t kBlockTokens = 16;
  static constexpr uint32_t kSequenceBlocks = kTokensMax / kBlockTokens;

  explicit EngineModel(ModelCase model)
      : case_(std::move(model)), directory_(open_any(case_.name)) {}

  [[nodiscard]] uint32_t vocabulary_size() const { return directory_.config().vocabulary_size; }

  // Of a worker that computes with so many threads.
  [[nodiscard]] worker::WorkerParts parts(uint32_t threads) const {
    auto pool = std::make_shared<worker::ThreadPool>(threads);
    worker::WorkerParts parts;
    parts.links.tensor_parallel = std::make_unique<worker::SoloCollective>();
    auto model = worker::load_model(directory_, parts.place,
                                    {.kv_cache_dtype = case_.kv_cache_dtype,
                                     .quantization = case_.quantization,
                                     .block_tokens = kBlockTokens},
                                    *parts.links.tensor_parallel, *pool, {});
    EXPECT_TRUE(model.ok()) << model.status();
    parts.model = std::move(model).value();
    parts.pool = pool.get();
    parts.foundation = std::move(pool);
    parts.logits_rows_max = 4;
    return parts;
  }

  // With memory for so many sequences of full length.
  [[nodiscard]] static engine::SchedulerConfig config(uint32_t sequences) {
    engine::SchedulerConfig config;
    config.sequences_max = sequences;
    config.model_tokens_max = kTokensMax;
    config.kv.block_count = kSequenceBlocks * sequences;
    config.kv.block_tokens = kBlockTokens;
    return config;
  }

  [[nodiscard]] std::vector<int32_t> random_tokens(Random& random, uint64_t count) const {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocabulary_size()));
    return tokens;
  }

  // With the keys 0, 1, 2, ... Most prompts begin like one before them.
  [[nodiscard]] std::vector<wire::AddRequest> random_requests(Random& random,
                                                              uint64_t count) const {
    std::vector<wire::AddRequest> requests;
    for (uint64_t key = 0; key < count; ++key) {
      wire::AddRequest request{.key = RequestKey{key}};
      std::vector<int32_t>& prompt = request.prompt_token_ids;
      if (key > 0 && random.below(3) > 0) {
        prompt = requests[random.below(key)].prompt_token_ids;
        prompt.resize(std::min<std::size_t>(prompt.size(), 1 + random.below(kPromptTokensMax - 1)));
      }
      const auto rest = random_tokens(random, 1 + random.below(kPromptTokensMax - prompt.size()));
      prompt.insert(prompt.end(), rest.begin(), rest.end());
      wire::SamplingParams& sampling = request.sampling;
      sampling.temperature = random.below(2) == 0 ? 0.0F : 0.9F;
      sampling.seed = random.next();
      sampling.output_tokens_max = static_cast<uint32_t>(random.below(40));
      sampling.logprobs = static_cast<int32_t>(random.below(3));
      if (random.below(5) == 0) sampling.prompt_logprobs = static_cast<int32_t>(random.below(3));
      choose_rules(sampling, random);
      request.priority = static_cast<int32_t>(random.below(3));
      if (random.below(6) == 0) request.cache_salt = "salt";
      requests.push_back(std::move(request));
    }
    return requests;
  }

  // Of each request in an engine that has no other and does nothing but compute it.
  [[nodiscard]] std::vector<Answer> answers_alone(
      const std::vector<wire::AddRequest>& requests) const {
    engine::SchedulerConfig plain = config(1);
    plain.steps_in_flight_max = 1;
    plain.kv.prefix_caching = false;
    EngineForTest engine(plain, parts(1));
    for (const wire::AddRequest& request : requests) {
      engine.add(request);
      engine.run();
    }
    return engine.answers();
  }

 private:
  static constexpr uint64_t kPromptTokensMax = 50;

  [[nodiscard]] static worker::ModelDirectory open_any(const std::string& name) {
    if (std::filesystem::exists(worker::kGoldenFolder / name)) return worker::open_golden(name);
    auto directory = worker::ModelDirectory::open((kQuantizedFolder / name).string());
    EXPECT_TRUE(directory.ok()) << directory.status();
    return std::move(directory).value();
  }

  const ModelCase case_;
  const worker::ModelDirectory directory_;
};

}  // namespace trireme
