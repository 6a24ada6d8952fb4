// Goal: quantised checkpoints of every format give on a CudaDevice the logits of the numbers that
// their codes mean, the same bits in chunks and in company, and with two ranks what one gives; what
// is quantised on load is what the CPU makes of it. Method: the golden models of
// tests/numerics/golden_quantized, beside the same weights written down as fp32 numbers and run on
// the CPU (that these are right says quantized_test.cc).
#include <gtest/gtest.h>

#include <thread>

#include "tests/numerics/checkpoint_for_test.h"
#include "tests/numerics/thread_collective_for_test.h"
#include "worker/kernels/cuda/cuda_model_for_test.h"
#include "worker/weights/quantized_formats.h"

namespace trireme::worker {
namespace {

const std::filesystem::path kFolder = "tests/numerics/golden_quantized";
// Of the largest logit.
constexpr float kFp32Tolerance = 1e-4F;
constexpr float kHalfTolerance = 2e-2F;  // What rows of activations lose that are rounded to it.
// A few activations whose int8 code lies on an edge; many where all else is halves.
constexpr float kInt8Tolerance = 2e-3F;
constexpr float kInt8HalfTolerance = 4e-2F;
// Two ranks round other parts of a row to int8.
constexpr float kInt8ParallelTolerance = 5e-2F;

bool is_int8(const std::string& name) { return name == "ct_int8"; }

ModelDirectory open_quantized_golden(const std::string& name) {
  auto directory = ModelDirectory::open((kFolder / name).string());
  EXPECT_TRUE(directory.ok()) << directory.status();
  return std::move(directory).value();
}

Expected quantized_golden(const std::string& name) {
  auto file = Safetensors::open_file((kFolder / name / "expected.safetensors").string());
  EXPECT_TRUE(file.ok()) << file.status();
  return {values_of<int32_t>(*file, "tokens"), values_of<float>(*file, "logits")};
}

struct Shape {
  const char* layer;
  uint32_t rows;
  uint32_t columns;
};
// Of the layers of all these models.
constexpr Shape kShapes[] = {{"self_attn.q_proj", 64, 64}, {"self_attn.k_proj", 32, 64},
                             {"self_attn.v_proj", 32, 64}, {"self_attn.o_proj", 64, 64},
                             {"mlp.gate_proj", 96, 64},    {"mlp.up_proj", 96, 64},
                             {"mlp.down_proj", 64, 96}};

// The same model with its codes decoded to fp32.
ModelDirectory decoded(const std::string& name) {
  const ModelDirectory source = open_quantized_golden(name);
  CheckpointForTest checkpoint;
  for (const TensorView& tensor : source.weights().tensors()) {
    if (tensor.name.find("_proj.") == std::string_view::npos) checkpoint.add_copy(tensor);
  }
  for (const Shape& shape : kShapes) {
    const std::string layer = std::string("model.layers.0.") + shape.layer;
    const auto matrix = open_quantized(source.weights(), source.config().quantization, layer,
                                       shape.rows, shape.columns);
    EXPECT_TRUE(matrix.ok()) << matrix.status();
    std::vector<float> values(std::size_t{shape.rows} * shape.columns);
    for (uint32_t row = 0; row < shape.rows; ++row) {
      (*matrix)->read_values(
          row, 0, std::span(values).subspan(std::size_t{row} * shape.columns, shape.columns));
    }
    checkpoint.add(layer + ".weight", "F32", {shape.rows, shape.columns},
                   {reinterpret_cast<const char*>(values.data()), sizeof(float) * values.size()});
  }
  std::string config = text_of(kFolder / name / "config.json");
  replace_all(config, "quantization_config", "was_quantised");
  return checkpoint.open(config);
}

std::vector<float> on_cpu(const ModelDirectory& directory, const LoadOptions& options,
                          std::span<const int32_t> tokens) {
  SoloCollective solo;
  ThreadPool pool(1);
  auto model = load_model(directory, WorkerPlace{}, options, solo, pool, {});
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {};
  EXPECT_TRUE((*model)->allocate_kv(kCudaModelBlocks).ok());
  return run_sequence(**model, tokens, static_cast<uint32_t>(tokens.size()));
}

std::string name_of(const testing::TestParamInfo<std::string>& test) { return test.param; }

class QuantizedOnCuda : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::vector<float> run(const CudaModel& model, uint32_t chunk = 1000) const {
    EXPECT_TRUE(model.status().ok()) << model.status();
    return model.status().ok() ? run_sequence(*model, tokens(), chunk) : std::vector<float>();
  }
  [[nodiscard]] const std::vector<int32_t>& tokens() const { return golden_.tokens; }
  // Where activations become int8 too, the golden ones say what that means.
  [[nodiscard]] std::vector<float> expected() const {
    if (is_int8(GetParam())) return golden_.values;
    return on_cpu(decoded(GetParam()), {.dtype = "float32"}, tokens());
  }

  const Expected golden_ = quantized_golden(GetParam());
};

INSTANTIATE_TEST_SUITE_P(All, QuantizedOnCuda, testing::ValuesIn(golden_names(kFolder)), name_of);

TEST_P(QuantizedOnCuda, logits_are_those_of_the_numbers_that_the_codes_mean) {
  const auto truth = expected();
  const auto got = run(CudaModel(open_quantized_golden(GetParam())));
  const float tolerance = is_int8(GetParam()) ? kInt8Tolerance : kFp32Tolerance;
  EXPECT_LT(largest_difference(got, truth), tolerance * largest_of(truth));
}

TEST_P(QuantizedOnCuda, logits_in_halves_lose_what_their_activations_lose) {
  const auto truth = expected();
  for (const Element element : {Element::kBfloat16, Element::kFloat16}) {
    const auto got = run(CudaModel(open_quantized_golden(GetParam()), {.element = element}));
    const float tolerance = is_int8(GetParam()) ? kInt8HalfTolerance : kHalfTolerance;
    EXPECT_LT(largest_difference(got, truth), tolerance * largest_of(truth));
  }
}

TEST_P(QuantizedOnCuda, bits_are_the_same_in_chunks_and_in_company) {
  for (const Element element : {Element::kFloat32, Element::kBfloat16}) {
    const CudaModel model(open_quantized_golden(GetParam()), {.element = element});
    const auto whole = run(model);
    EXPECT_EQ(run(model, 1), whole);
    EXPECT_EQ(run(model, 7), whole);
    const auto count = static_cast<uint32_t>(tokens().size());
    const std::vector<std::vector<int32_t>> blocks = {{7, 2}, {1, 6}};
    const auto together =
        run_step(*model, std::vector{SequencePart{tokens(), blocks[0], 0, 3},
                                     SequencePart{tokens(), blocks[1], 0, count}});
    ASSERT_TRUE(together.ok()) << together.status();
    EXPECT_TRUE(std::equal(whole.rbegin(), whole.rend(), together->rbegin()));
  }
}

TEST_P(QuantizedOnCuda, two_ranks_compute_what_one_does) {
  const auto truth = expected();
  ThreadGroup group(2);
  std::vector<std::vector<float>> logits(2);
  {
    std::vector<std::jthread> ranks;
    for (uint32_t rank = 0; rank < 2; ++rank) {
      ranks.emplace_back([&, rank] {
        ThreadCollective collective(group, rank);
        logits[rank] =
            run(CudaModel(open_quantized_golden(GetParam()),
                          {.place = {.tp_rank = rank, .tp_size = 2}, .collective = &collective}));
      });
    }
  }
  EXPECT_EQ(logits[0], logits[1]);
  const float tolerance = is_int8(GetParam()) ? kInt8ParallelTolerance : kFp32Tolerance;
  EXPECT_LT(largest_difference(logits[0], truth), tolerance * largest_of(truth));
}

TEST_P(QuantizedOnCuda, weights_are_kept_as_they_are_stored) {
  const CudaModel coded(open_quantized_golden(GetParam()));
  const CudaModel plain(decoded(GetParam()));
  ASSERT_TRUE(coded.status().ok() && plain.status().ok());
  uint64_t values = 0;
  for (const Shape& shape : kShapes) values += uint64_t{shape.rows} * shape.columns;
  const bool is_four_bit = coded->weight_bytes() < plain->weight_bytes() - 3 * values;
  const bool should_be = GetParam().find("8") == std::string::npos;
  EXPECT_EQ(is_four_bit, should_be);
  // Scales of so small groups beside the codes.
  EXPECT_LT(coded->weight_bytes(), plain->weight_bytes() - 2 * values);
}

// The guess leaves out the embedding, and what groups that fit no tile are padded with.
TEST_P(QuantizedOnCuda, bytes_to_load_are_about_what_is_loaded) {
  const ModelDirectory directory = open_quantized_golden(GetParam());
  const auto guess = weight_bytes_to_load(directory, "float32", "", 1, /*keeps_float8=*/true);
  ASSERT_TRUE(guess.ok()) << guess.status();
  const CudaModel model(open_quantized_golden(GetParam()));
  ASSERT_TRUE(model.status().ok()) << model.status();
  const auto taken = static_cast<double>(model->weight_bytes());
  EXPECT_GT(static_cast<double>(*guess), taken * 0.5);
  EXPECT_LT(static_cast<double>(*guess), taken * 1.1);
}

constexpr std::pair<const char*, cpu::OnLoad> kOnLoad[] = {{"int8", cpu::OnLoad::kInt8},
                                                           {"int4", cpu::OnLoad::kInt4}};

// The CPU rounds activations that meet int4 weights to int8, a GPU does not; that its weights are
// the CPU's says cuda_quantized_test.cc.
TEST(QuantizedOnLoadOnCuda, logits_are_those_of_the_cpu) {
  const std::vector<int32_t> tokens = expected_of("llama").tokens;
  for (const auto& [name, on_load] : kOnLoad) {
    const auto expected =
        on_cpu(open_golden("llama"), {.dtype = "float32", .quantization = name}, tokens);
    const CudaModel model("llama", {.on_load = on_load});
    ASSERT_TRUE(model.status().ok()) << model.status();
    const auto got = run_sequence(*model, tokens, static_cast<uint32_t>(tokens.size()));
    const float tolerance = on_load == cpu::OnLoad::kInt8 ? kInt8Tolerance : 8e-2F;
    EXPECT_LT(largest_difference(got, expected), tolerance * largest_of(expected)) << name;
    EXPECT_EQ(run_sequence(*model, tokens, 7), got) << name;
  }
}

// The head's rows are codes then; the embedding has its own.
TEST(QuantizedOnLoadOnCuda, a_tied_embedding_keeps_its_numbers) {
  const std::vector<int32_t> tokens = expected_of("llama_tied").tokens;
  const auto expected =
      on_cpu(open_golden("llama_tied"), {.dtype = "float32", .quantization = "int8"}, tokens);
  const CudaModel model("llama_tied", {.on_load = cpu::OnLoad::kInt8});
  ASSERT_TRUE(model.status().ok()) << model.status();
  const auto got = run_sequence(*model, tokens, static_cast<uint32_t>(tokens.size()));
  EXPECT_LT(largest_difference(got, expected), kInt8Tolerance * largest_of(expected));
}

}  // namespace
}  // namespace trireme::worker
