// Worker::load on a tiny Llama directory written here: what it says, that it decodes the same alone
// and in company, and what a bad directory is told.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "common/shm/shared_image.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/expert_parallel.h"
#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/step_for_test.h"
#include "worker/tiny_model_for_test.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

constexpr char kImageName[] = "weights-of-worker-load-test";

uint32_t images_mapped() {
  std::ifstream maps("/proc/self/maps");
  uint32_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(kImageName) != std::string::npos) ++count;
  }
  return count;
}

// Of the mapped checkpoint, what counts as this process's memory.
uint64_t checkpoint_kilobytes() {
  std::ifstream smaps("/proc/self/smaps");
  uint64_t total = 0;
  bool is_checkpoint = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long kilobytes = 0;
    if (line.find('/') != std::string::npos) {
      is_checkpoint = line.ends_with("model.safetensors");
    } else if (is_checkpoint && std::sscanf(line.c_str(), "Rss: %lu kB", &kilobytes) == 1) {
      total += kilobytes;
      is_checkpoint = false;
    }
  }
  return total;
}

std::vector<int32_t> greedy_tokens(Worker& worker) {
  std::vector<int32_t> tokens;
  if (!worker.allocate_kv(4).ok()) return tokens;
  StepForTest step;
  step.arrive(0, {3, 1, 4}, {0}, {.temperature = 0}).row(0, 0, 3);
  for (uint32_t position = 3; position < 12; ++position) {
    const auto result = worker.execute(step.input);
    if (!result.ok()) return tokens;
    tokens.push_back(result->row_token[0]);
    step = StepForTest().row(0, position, 1);
  }
  return tokens;
}

class WorkerLoad : public ::testing::Test {
 protected:
  WorkerLoad() { write_tiny_model(directory_, "LlamaForCausalLM"); }
  StatusOr<std::unique_ptr<Worker>> load(const ServeOptions& more = {}) const {
    ServeOptions options = more;
    options.model.model = directory_.path();
    options.worker.cpu_threads_bind = "nobind";
    return Worker::load(options, {}, std::make_unique<SoloCollective>(),
                        [](std::string_view, double) {});
  }

  // As a worker of a node whose workers share the image.
  StatusOr<std::unique_ptr<Worker>> load_shared(int image, const ServeOptions& more = {}) const {
    ServeOptions options = more;
    options.model.model = directory_.path();
    options.worker.cpu_threads_bind = "nobind";
    WorkerLinks links{.tensor_parallel = std::make_unique<SoloCollective>(),
                      .weights = UniqueFd(::dup(image))};
    cpu::CpuFactory factory;
    return load_stage(options, {}, std::move(links), factory, [](std::string_view, double) {});
  }

  TestDirectory directory_;
};

// A device whose memory is its worker's alone; what it computes with is the CPU.
class RoomyFactory final : public DeviceFactory {
 public:
  explicit RoomyFactory(uint64_t free_bytes) : free_bytes_(free_bytes) {}

  Status open(const ServeOptions&, const LocalWorkers& workers) override {
    index = workers.index;
    return absl::OkStatus();
  }
  StatusOr<DeviceMemory> memory() const override {
    return DeviceMemory{.available_bytes = free_bytes_, .is_own = true};
  }
  StatusOr<std::unique_ptr<Device>> make(const DeviceRequest& request) const override {
    return cpu::CpuFactory().make(request);
  }
  uint32_t index = 99;

 private:
  uint64_t free_bytes_;
};

TEST_F(WorkerLoad, memory_is_what_the_factory_of_the_device_says) {
  ServeOptions options;
  options.model.model = directory_.path();
  options.worker.cpu_threads_bind = "nobind";
  options.parallel.data_parallel_size = 2;
  options.internal.engine_rank = 1;
  const auto loaded = [&](RoomyFactory& factory) {
    return load_stage(options, {}, {.tensor_parallel = std::make_unique<SoloCollective>()}, factory,
                      [](std::string_view, double) {});
  };
  RoomyFactory roomy(uint64_t{1} << 40);
  auto worker = loaded(roomy);
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ(roomy.index, 1u);
  EXPECT_GT((*worker)->ready().kv_bytes_max, uint64_t{800} << 30) << "not shared with the other";
  RoomyFactory narrow(1000);
  const std::string message(loaded(narrow).status().message());
  EXPECT_NE(message.find("0.00 GiB of the GPU's memory are available"), std::string::npos)
      << message;
}

TEST_F(WorkerLoad, says_what_the_model_takes) {
  auto worker = load();
  ASSERT_TRUE(worker.ok()) << worker.status();
  const wire::WorkerReady ready = (*worker)->ready();
  EXPECT_GE(ready.block_bytes, 2u * 2 * 16 * 16 * 4) << "K and V of 2 layers, 16 tokens, 16 fp32";
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

TEST_F(WorkerLoad, the_file_of_a_tied_model_is_not_read_again) {
  auto worker = load();
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ(greedy_tokens(**worker).size(), 9u);
  EXPECT_EQ(checkpoint_kilobytes(), 0u);
}

TEST_F(WorkerLoad, a_draft_model_is_counted_and_guesses) {
  ServeOptions options;
  options.scheduler.speculation.method = "draft_model";
  options.scheduler.speculation.model = directory_.path();
  auto plain = load();
  auto drafting = load(options);
  ASSERT_TRUE(plain.ok() && drafting.ok()) << plain.status() << drafting.status();
  EXPECT_EQ((*drafting)->ready().weight_bytes, 2 * (*plain)->ready().weight_bytes);
  EXPECT_EQ((*drafting)->ready().block_bytes, 2 * (*plain)->ready().block_bytes);
  ASSERT_TRUE((*drafting)->allocate_kv(4).ok());
  StepForTest prompt;
  prompt.arrive(0, {3, 1, 4}, {0}, {.temperature = 0}).row(0, 0, 3);
  ASSERT_TRUE((*drafting)->execute(prompt.input).ok());
  const auto result = (*drafting)->execute(StepForTest().row(0, 3, 1).row_guesses(3).input);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->row_accepted, std::vector<uint32_t>{3}) << "it guesses for itself";
}

TEST_F(WorkerLoad, bad_directories_are_told_what_is_wrong) {
  write_tiny_model(directory_, "NoSuchForCausalLM");
  EXPECT_NE(std::string(load().status().message()).find("NoSuchForCausalLM"), std::string::npos);
  ServeOptions too_much;
  too_much.scheduler.kv_bytes = uint64_t{1} << 60;
  write_tiny_model(directory_, "LlamaForCausalLM");
  EXPECT_EQ(load(too_much).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(WorkerLoad, a_short_length_is_served_by_the_short_factors_of_the_original_context) {
  auto plain = load();
  ASSERT_TRUE(plain.ok()) << plain.status();
  const std::vector<int32_t> tokens = greedy_tokens(**plain);
  write_tiny_model(directory_, "LlamaForCausalLM",
                   R"(,"rope_scaling":{"rope_type":"longrope","attention_factor":1,)"
                   R"("original_max_position_embeddings":16,"short_factor":[1,1,1,1],)"
                   R"("long_factor":[2]})");
  const Status long_served = load().status();
  EXPECT_NE(std::string(long_served.message()).find("long_factor has 1 factors"), std::string::npos)
      << "the model's own length turns by the long ones: " << long_served;
  ServeOptions options;
  options.model.model_tokens_max = 16;
  auto short_served = load(options);
  ASSERT_TRUE(short_served.ok()) << short_served.status();
  EXPECT_EQ(greedy_tokens(**short_served), tokens);
}

TEST_F(WorkerLoad, shared_weights_of_every_form_answer_as_own_ones_do) {
  for (const char* quantization : {"", "int8", "int4"}) {
    const auto image = shm::SharedImage::create(kImageName, 2);
    if (!image.ok()) GTEST_SKIP() << image.status();
    ServeOptions options;
    options.model.quantization = quantization;
    auto alone = load(options);
    auto maker = load_shared(image->get(), options);
    ASSERT_TRUE(alone.ok() && maker.ok()) << alone.status() << maker.status();
    EXPECT_EQ(images_mapped(), 1u);
    auto finder = load_shared(image->get(), options);
    ASSERT_TRUE(finder.ok()) << finder.status();
    EXPECT_EQ(images_mapped(), 2u);
    EXPECT_EQ((*finder)->ready().weight_bytes, (*alone)->ready().weight_bytes);
    const std::vector<int32_t> tokens = greedy_tokens(**alone);
    EXPECT_EQ(tokens.size(), 9u);
    EXPECT_EQ(greedy_tokens(**maker), tokens);
    EXPECT_EQ(greedy_tokens(**finder), tokens);
  }
}

TEST_F(WorkerLoad, experts_that_are_to_be_divided_need_a_mesh) {
  write_tiny_mixture(directory_);
  ServeOptions options;
  options.parallel.expert_parallel = true;
  EXPECT_TRUE(load(options).ok()) << "one worker has nobody to divide them with";
  options.parallel.data_parallel_size = 2;
  const Status missing = load(options).status();
  EXPECT_EQ(missing.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(missing.message()).find("mesh is missing: --enable-expert-parallel"),
            std::string::npos)
      << missing;
  write_tiny_model(directory_, "LlamaForCausalLM");
  EXPECT_TRUE(load(options).ok()) << "a model without experts";
}

TEST(RedundantExperts, are_at_most_at_all_places) {
  ServeOptions options;
  options.parallel.expert_parallel = true;
  options.parallel.data_parallel_size = 3;
  options.parallel.expert_balancing = {.is_on = true, .redundant_count = 16};
  const ModelConfig config{.expert_count = 8};
  EXPECT_TRUE(check_redundant_experts(options, config).ok());
  options.parallel.expert_balancing.redundant_count = 17;
  EXPECT_EQ(check_redundant_experts(options, config).message(),
            "--eplb-config: num_redundant_experts 17 is more than 16: with so many each of the "
            "model's 8 experts is at all 3 ranks");
  EXPECT_TRUE(check_redundant_experts(options, ModelConfig()).ok()) << "a model without experts";
}

TEST_F(WorkerLoad, a_wave_of_one_rank_answers_as_a_worker_alone_does) {
  write_tiny_mixture(directory_);
  auto alone = load();
  ASSERT_TRUE(alone.ok()) << alone.status();
  const MeshForTest mesh(2);
  WorkerLinks links{.tensor_parallel = std::make_unique<SoloCollective>(),
                    .experts = mesh.exchange(1)};
  ServeOptions options;
  options.model.model = directory_.path();
  options.worker.cpu_threads_bind = "nobind";
  options.parallel.expert_parallel = true;
  options.parallel.data_parallel_size = 2;
  cpu::CpuFactory factory;
  auto joined = load_stage(options, {}, std::move(links), factory, [](std::string_view, double) {});
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ((*joined)->ready().weight_bytes, (*alone)->ready().weight_bytes);
  EXPECT_FALSE((*joined)->join_wave({.ranks = {0}}).ok()) << "its own rank is missing";
  EXPECT_FALSE((*joined)->join_wave({.ranks = {0, 1}, .endpoints = {""}}).ok()) << "of whom?";
  EXPECT_EQ((*joined)->ready().expert_endpoint, "") << "it is on one node";
  ASSERT_TRUE((*joined)->join_wave({.ranks = {1}, .endpoints = {""}}).ok());
  EXPECT_EQ(greedy_tokens(**joined), greedy_tokens(**alone));
}

TEST_F(WorkerLoad, weights_of_another_model_are_not_taken_for_ours) {
  const auto image = shm::SharedImage::create(kImageName, 2);
  if (!image.ok()) GTEST_SKIP() << image.status();
  ASSERT_TRUE(load_shared(image->get()).ok());
  ServeOptions other;
  other.model.dtype = "bfloat16";
  auto alone = load(other);
  auto late = load_shared(image->get(), other);
  ASSERT_TRUE(alone.ok() && late.ok()) << late.status();
  EXPECT_EQ(images_mapped(), 0u) << "it has weights of its own";
  EXPECT_EQ(greedy_tokens(**late), greedy_tokens(**alone));
}

}  // namespace
}  // namespace trireme::worker
