// Goal: checkpoints of every quantised format mean what their descriptions say, on one rank and cut
// over two; and one whose files do not fit together, or whose weights are not quantised where they
// shall be, is refused by the tensor. Method: the tiny
// models of make_quantized.py, whose logits were computed from the numbers their codes mean.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <thread>

#include "tests/numerics/checkpoint_for_test.h"
#include "tests/numerics/model_for_test.h"
#include "tests/numerics/thread_collective_for_test.h"

namespace trireme::worker {
namespace {

const std::filesystem::path kFolder = "tests/numerics/golden_quantized";
constexpr uint32_t kBlocks = 4;
// Of the largest logit: fp32, and a few activations whose int8 code lies on an edge.
constexpr float kTolerance = 2e-3F;
constexpr float kDecodedTolerance = 1e-5F;
// Two ranks round other parts of a row.
constexpr float kParallelTolerance = 5e-2F;

bool is_decoded(const std::string& name) {
  return name.find("fp8") != std::string::npos || name.find("8bit") != std::string::npos;
}

class Quantized : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto directory = ModelDirectory::open((kFolder / GetParam()).string());
    ASSERT_TRUE(directory.ok()) << directory.status();
    directory_ = std::make_unique<ModelDirectory>(std::move(directory).value());
    auto file = Safetensors::open_file((kFolder / GetParam() / "expected.safetensors").string());
    ASSERT_TRUE(file.ok()) << file.status();
    tokens_ = values_of<int32_t>(*file, "tokens");
    logits_ = values_of<float>(*file, "logits");
    largest_ = std::abs(
        *std::ranges::max_element(logits_, {}, [](float value) { return std::abs(value); }));
  }

  [[nodiscard]] std::unique_ptr<Model> load(const LoadOptions& options) {
    auto model = load_model(*directory_, WorkerPlace{}, options, solo_, pool_, {});
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return nullptr;
    EXPECT_TRUE((*model)->allocate_kv(kBlocks).ok());
    return std::move(model).value();
  }

  std::unique_ptr<ModelDirectory> directory_;
  SoloCollective solo_;
  ThreadPool pool_{2};
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  float largest_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, Quantized, testing::ValuesIn(golden_names(kFolder)),
                         [](const auto& test) { return test.param; });

TEST_P(Quantized, logits_are_those_of_the_numbers_that_the_codes_mean) {
  const auto model = load({.dtype = "float32"});
  ASSERT_NE(model, nullptr);
  const auto got = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  const float tolerance = is_decoded(GetParam()) ? kDecodedTolerance : kTolerance;
  EXPECT_LT(largest_difference(got, logits_), tolerance * largest_);
}

TEST_P(Quantized, bits_are_the_same_at_any_chunking_of_the_prompt) {
  const auto model = load({});
  ASSERT_NE(model, nullptr);
  const auto all = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  EXPECT_EQ(run_sequence(*model, tokens_, 1), all);
  EXPECT_EQ(run_sequence(*model, tokens_, 7), all);
}

TEST_P(Quantized, two_tensor_parallel_ranks_compute_what_one_does) {
  ThreadGroup group(2);
  std::vector<std::vector<float>> logits(2);
  std::vector<std::jthread> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      ThreadCollective collective(group, rank);
      ThreadPool pool(1);
      auto model = load_model(*directory_, {.tp_rank = rank, .tp_size = 2}, {.dtype = "float32"},
                              collective, pool, {});
      ASSERT_TRUE(model.ok()) << model.status();
      ASSERT_TRUE((*model)->allocate_kv(kBlocks).ok());
      logits[rank] = run_sequence(**model, tokens_, 7);
    });
  }
  ranks.clear();
  const float tolerance = is_decoded(GetParam()) ? kDecodedTolerance : kParallelTolerance;
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_LT(largest_difference(logits[0], logits_), tolerance * largest_);
}

TEST_P(Quantized, a_flag_that_is_not_the_checkpoint_s_method_is_refused_with_both) {
  for (const std::string wanted : {"int8", "int4", "awq", "gptq", "fp8", "compressed-tensors"}) {
    const std::string stored(name_of(directory_->config().quantization.method));
    const Status status =
        load_model(*directory_, WorkerPlace{}, {.quantization = wanted}, solo_, pool_, {}).status();
    EXPECT_EQ(status.ok(), wanted == stored) << status;
    const std::string message(status.message());
    if (wanted == stored) continue;
    EXPECT_NE(message.find("--quantization " + wanted), std::string::npos) << message;
    EXPECT_NE(message.find("quantised by " + stored), std::string::npos) << message;
  }
}

// What a checkpoint whose files do not fit together says: of one layer that is not square.
constexpr std::string_view kLayer = "model.layers.0.mlp.down_proj.";

class BadQuantized : public Quantized {
 protected:
  using Change = std::function<void(const TensorView& tensor, CheckpointForTest& checkpoint)>;

  // The checkpoint with the tensors of kLayer as `change` has them.
  [[nodiscard]] std::string refusal(const std::string& config, const Change& change) {
    CheckpointForTest checkpoint;
    for (const TensorView& tensor : directory_->weights().tensors()) {
      if (tensor.name.starts_with(kLayer)) {
        change(tensor, checkpoint);
      } else {
        checkpoint.add_copy(tensor);
      }
    }
    const ModelDirectory changed = checkpoint.open(config);
    return std::string(load_model(changed, WorkerPlace{}, {}, solo_, pool_, {}).status().message());
  }
  [[nodiscard]] std::string config() const { return text_of(kFolder / GetParam() / "config.json"); }
  [[nodiscard]] static bool is_scale(const TensorView& tensor) {
    return tensor.name.find("scale") != std::string_view::npos;
  }
  static void expect_words(const std::string& message, const std::vector<std::string>& words) {
    for (const std::string& word : words) {
      EXPECT_NE(message.find(word), std::string::npos) << "'" << word << "' is not in " << message;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(All, BadQuantized, testing::ValuesIn(golden_names(kFolder)),
                         [](const auto& test) { return test.param; });

TEST_P(BadQuantized, scales_that_are_missing_are_named) {
  const std::string message = refusal(config(), [](const TensorView& tensor, auto& checkpoint) {
    if (!is_scale(tensor)) checkpoint.add_copy(tensor);
  });
  expect_words(message, {"tensor \"" + std::string(kLayer), "scale", "is missing in the weights"});
}

TEST_P(BadQuantized, codes_of_another_shape_are_named_with_both) {
  std::string name;
  std::string stored;
  std::string wanted;
  const auto text_of_shape = [](int64_t rows, int64_t columns) {
    return absl::StrFormat("[%d, %d]", rows, columns);
  };
  const std::string message = refusal(config(), [&](const TensorView& tensor, auto& checkpoint) {
    const bool are_codes = tensor.name.ends_with("weight") || tensor.name.ends_with("_packed");
    if (!are_codes) return checkpoint.add_copy(tensor);
    name = tensor.name;
    wanted = text_of_shape(tensor.shape[0], tensor.shape[1]);
    stored = text_of_shape(tensor.shape[1], tensor.shape[0]);
    checkpoint.add(tensor.name, name_of(tensor.dtype), {tensor.shape[1], tensor.shape[0]},
                   {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
  });
  expect_words(message,
               {"tensor \"" + name + "\" has shape " + stored, "config.json makes it " + wanted});
}

TEST_P(BadQuantized, groups_of_another_size_are_named_with_both_shapes) {
  const std::string own = config();
  std::string other = own;
  replace_all(other, "\"group_size\": 32", "\"group_size\": 16");
  replace_all(other, " 48\n", " 32\n");  // weight_block_size
  if (other == own) GTEST_SKIP() << "one group a row";
  const std::string message = refusal(
      other, [](const TensorView& tensor, auto& checkpoint) { checkpoint.add_copy(tensor); });
  expect_words(message, {"tensor \"model.layers.0.", "\" has shape [", "config.json makes it ["});
}

TEST_P(BadQuantized, an_unpacked_shape_that_is_another_one_is_named_with_both) {
  bool is_there = false;
  const std::string message = refusal(config(), [&](const TensorView& tensor, auto& checkpoint) {
    if (!tensor.name.ends_with(".weight_shape")) return checkpoint.add_copy(tensor);
    is_there = true;
    const int64_t sizes[2] = {64, 95};
    checkpoint.add(tensor.name, "I64", {2}, {reinterpret_cast<const char*>(sizes), sizeof(sizes)});
  });
  if (!is_there) GTEST_SKIP() << "not packed";
  expect_words(message, {"tensor \"" + std::string(kLayer) + "weight_shape\" says [64, 95]",
                         "config.json makes the layer [64, 96]"});
}

// Checkpoints with plain weights where config.json says they are quantised.
class PlainInQuantized : public BadQuantized {
 protected:
  // With the layers that are `plain` stored in F16, and `lists` in quantization_config.
  [[nodiscard]] std::string refusal_with(const std::function<bool(std::string_view)>& is_plain,
                                         const std::string& lists) {
    CheckpointForTest checkpoint;
    for (const TensorView& tensor : directory_->weights().tensors()) {
      const std::string layer(tensor.name.substr(0, tensor.name.rfind('.') + 1));
      if (!layer.ends_with("_proj.") || !is_plain(layer)) {
        checkpoint.add_copy(tensor);
      } else if (is_codes(tensor)) {
        checkpoint.add(layer + "weight", "F16", shape_of(layer),
                       std::string(2 * shape_of(layer)[0] * shape_of(layer)[1], '\0'));
      }
    }
    std::string text = config();
    replace_all(text, R"("quantization_config": {)", R"("quantization_config": {)" + lists);
    const ModelDirectory changed = checkpoint.open(text);
    return std::string(load_model(changed, WorkerPlace{}, {}, solo_, pool_, {}).status().message());
  }
  [[nodiscard]] std::string refusal_of_one(const std::string& lists = "") {
    return refusal_with([](std::string_view layer) { return layer == kLayer; }, lists);
  }

  [[nodiscard]] static bool is_codes(const TensorView& tensor) {
    return tensor.name.ends_with("weight") || tensor.name.ends_with("_packed");
  }
  // Of LINEAR in make_quantized.py.
  [[nodiscard]] static std::vector<int64_t> shape_of(const std::string& layer) {
    if (layer.ends_with("gate_proj.") || layer.ends_with("up_proj.")) return {96, 64};
    if (layer.ends_with("down_proj.")) return {64, 96};
    const bool is_kv = layer.ends_with("k_proj.") || layer.ends_with("v_proj.");
    return {is_kv ? 32 : 64, 64};
  }
  [[nodiscard]] std::string method() const {
    return std::string(name_of(directory_->config().quantization.method));
  }
  // Whether tools write no list of layers that are left out.
  [[nodiscard]] bool says_nothing() const { return method() == "gptq" || method() == "awq"; }
};

INSTANTIATE_TEST_SUITE_P(All, PlainInQuantized, testing::ValuesIn(golden_names(kFolder)),
                         [](const auto& test) { return test.param; });

TEST_P(PlainInQuantized, a_checkpoint_of_plain_weights_is_refused_with_what_to_do) {
  const std::string message = refusal_with([](std::string_view) { return true; }, "");
  expect_words(message,
               {"/model.safetensors: tensor \"model.layers.0.self_attn.q_proj.weight\" is F16",
                "quantization_config of ", "/config.json says that it is quantised by " + method(),
                "remove quantization_config"});
}

TEST_P(PlainInQuantized, one_plain_layer_is_refused_where_the_method_lists_those_left_out) {
  const std::string message = refusal_of_one();
  if (says_nothing()) {
    EXPECT_EQ(message, "");
    return;
  }
  expect_words(message,
               {"tensor \"" + std::string(kLayer) + "weight\" is F16", "quantised by " + method(),
                method() == "fp8" ? "modules_to_not_convert" : "name it in ignore"});
}

TEST_P(PlainInQuantized, a_layer_that_is_left_out_may_be_plain) {
  const std::map<std::string, std::string> lists = {
      {"gptq", R"("modules_in_block_to_quantize": [["self_attn", "gate_proj"], ["up_proj"]], )"},
      {"awq", R"("modules_to_not_convert": ["down_proj"], )"},
      {"fp8", R"("ignored_layers": ["model.layers.0.mlp.down_proj"], )"},
      {"compressed-tensors", R"("ignore": ["lm_head", "re:.*down_proj$"], )"}};
  EXPECT_EQ(refusal_of_one(lists.at(method())), "");
}

TEST_P(PlainInQuantized, a_list_without_the_layer_refuses_it) {
  const std::map<std::string, std::string> lists = {
      {"gptq", R"("modules_in_block_to_quantize": [["self_attn", "gate_proj", "down_proj"]], )"},
      {"awq", R"("modules_to_not_convert": ["lm_head"], )"},
      {"fp8", R"("ignored_layers": ["lm_head"], )"},
      {"compressed-tensors", R"("ignore": ["lm_head"], )"}};
  expect_words(refusal_of_one(lists.at(method())),
               {"tensor \"" + std::string(kLayer) + "weight\" is F16"});
}

TEST_P(PlainInQuantized, a_layer_that_is_there_plain_and_quantised_is_refused_with_both) {
  std::string codes;
  const std::string message = refusal(config(), [&](const TensorView& tensor, auto& checkpoint) {
    checkpoint.add_copy(tensor);
    const bool are_codes = tensor.name.ends_with(".qweight") || tensor.name.ends_with("_packed");
    if (!are_codes) return;
    codes = tensor.name;
    const std::vector<int64_t> shape = shape_of(std::string(kLayer));
    checkpoint.add(std::string(kLayer) + "weight", "F16", shape,
                   std::string(2 * shape[0] * shape[1], '\0'));
  });
  if (codes.empty()) GTEST_SKIP() << "quantised weights have the name of plain ones";
  expect_words(message, {"\"" + std::string(kLayer) + "weight\"", "\"" + codes + "\"",
                         "plain and quantised", "/model.safetensors"});
}

TEST(PlainRouter, of_a_quantised_mixture_need_not_be_left_out) {
  const auto mixture = ModelDirectory::open("models/demo-moe");
  ASSERT_TRUE(mixture.ok()) << mixture.status();
  CheckpointForTest checkpoint;
  for (const TensorView& tensor : mixture->weights().tensors()) checkpoint.add_copy(tensor);
  SoloCollective solo;
  ThreadPool pool(1);
  const auto refusal = [&](const std::string& left_out) {
    std::string text = text_of("models/demo-moe/config.json");
    text.insert(text.find('{') + 1, R"("quantization_config": {"quant_method": "fp8",)"
                                    R"("modules_to_not_convert": [)" +
                                        left_out + "]},");
    const ModelDirectory changed = checkpoint.open(text);
    return std::string(load_model(changed, WorkerPlace{}, {}, solo, pool, {}).status().message());
  };
  EXPECT_EQ(refusal(R"("self_attn","experts")"), "");
  EXPECT_NE(refusal(R"("self_attn")").find("block_sparse_moe.experts.0.w1.weight"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme::worker
