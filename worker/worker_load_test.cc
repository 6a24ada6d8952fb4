// Worker::load on a tiny Llama directory written here: what it says, that it decodes the same alone
// and in company, and what a bad directory is told.
#include <gtest/gtest.h>

#include "worker/step_for_test.h"
#include "worker/tiny_model_for_test.h"
#include "worker/worker.h"

namespace trireme::worker {
namespace {

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

  TestDirectory directory_;
};

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

}  // namespace
}  // namespace trireme::worker
