// Worker::load on a tiny Llama directory written here: what it says, that it decodes the same alone
// and in company, and what a bad directory is told.
#include <gtest/gtest.h>

#include <cstring>

#include "common/random.h"
#include "worker/step_for_test.h"
#include "worker/weights/test_directory.h"
#include "worker/worker.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kVocabulary = 40;
constexpr uint32_t kHidden = 16;
constexpr uint32_t kIntermediate = 32;
constexpr std::string_view kConfig =
    R"({"architectures":["%s"],"vocab_size":40,"hidden_size":16,"intermediate_size":32,)"
    R"("num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,)"
    R"("max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true})";

class WeightsWriter {
 public:
  void add(const std::string& name, std::vector<uint32_t> shape) {
    std::size_t count = 1;
    std::string dimensions;
    for (const uint32_t dimension : shape) {
      count *= dimension;
      absl::StrAppendFormat(&dimensions, "%s%u", dimensions.empty() ? "" : ",", dimension);
    }
    const std::size_t begin = data_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(random_.unit() - 0.5);
      data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    absl::StrAppendFormat(&header_, R"(%s"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]})",
                          header_.empty() ? "" : ",", name, dimensions, begin, data_.size());
  }
  std::string bytes() const { return safetensors_bytes("{" + header_ + "}", data_); }

 private:
  Random random_{7};
  std::string header_;
  std::string data_;
};

std::string tiny_weights() {
  WeightsWriter weights;
  const std::string layer = "model.layers.0.";
  weights.add("model.embed_tokens.weight", {kVocabulary, kHidden});
  weights.add("model.norm.weight", {kHidden});
  weights.add(layer + "input_layernorm.weight", {kHidden});
  weights.add(layer + "post_attention_layernorm.weight", {kHidden});
  weights.add(layer + "self_attn.q_proj.weight", {16, kHidden});
  weights.add(layer + "self_attn.k_proj.weight", {8, kHidden});
  weights.add(layer + "self_attn.v_proj.weight", {8, kHidden});
  weights.add(layer + "self_attn.o_proj.weight", {kHidden, 16});
  weights.add(layer + "mlp.gate_proj.weight", {kIntermediate, kHidden});
  weights.add(layer + "mlp.up_proj.weight", {kIntermediate, kHidden});
  weights.add(layer + "mlp.down_proj.weight", {kHidden, kIntermediate});
  return weights.bytes();
}

class WorkerLoad : public ::testing::Test {
 protected:
  explicit WorkerLoad() { write("LlamaForCausalLM"); }
  void write(const std::string& architecture) const {
    std::string config(kConfig);
    config.replace(config.find("%s"), 2, architecture);
    directory_.write("config.json", config);
    directory_.write("model.safetensors", tiny_weights());
  }
  StatusOr<std::unique_ptr<Worker>> load(const ServeOptions& more = {}) const {
    ServeOptions options = more;
    options.model.model = directory_.path();
    options.worker.cpu_threads_bind = "nobind";
    return Worker::load(options, {}, std::make_unique<SoloCollective>(),
                        [](std::string_view, double) {});
  }

  TestDirectory directory_;
};

TEST_F(WorkerLoad, says_what_the_model_takes) {
  auto worker = load();
  ASSERT_TRUE(worker.ok()) << worker.status();
  const wire::WorkerReady ready = (*worker)->ready();
  EXPECT_GE(ready.block_bytes, 2u * 16 * 8 * 4) << "K and V, 16 tokens, one head of 8, fp32";
  EXPECT_GT(ready.weight_bytes, 0u);
  EXPECT_GT(ready.kv_bytes_max, 0u);
}

TEST_F(WorkerLoad, decodes_the_same_alone_and_in_company) {
  const wire::SamplingParams greedy{.temperature = 0};
  auto alone = load();
  auto crowded = load();
  ASSERT_TRUE(alone.ok() && crowded.ok());
  ASSERT_TRUE((*alone)->allocate_kv(4).ok());
  ASSERT_TRUE((*crowded)->allocate_kv(16).ok());
  StepForTest one;
  one.arrive(0, {3, 1, 4}, {0}, greedy).row(0, 0, 3);
  StepForTest many;
  many.arrive(7, {9}, {3}, greedy).arrive(2, {3, 1, 4}, {11}, greedy).row(7, 0, 1).row(2, 0, 3);
  for (uint32_t position = 3; position < 12; ++position) {
    const auto a = (*alone)->execute(one.input);
    const auto b = (*crowded)->execute(many.input);
    ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
    EXPECT_EQ(a->row_token[0], b->row_token[1]);
    EXPECT_GE(a->row_token[0], 0);
    one = StepForTest().row(0, position, 1);
    many = StepForTest().row(7, position - 2, 1).row(2, position, 1);
  }
}

TEST_F(WorkerLoad, bad_directories_are_told_what_is_wrong) {
  write("NoSuchForCausalLM");
  EXPECT_NE(std::string(load().status().message()).find("NoSuchForCausalLM"), std::string::npos);
  ServeOptions greedy_options;
  greedy_options.scheduler.kv_bytes = uint64_t{1} << 60;
  write("LlamaForCausalLM");
  EXPECT_EQ(load(greedy_options).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace trireme::worker
