// The process's loop over a queue in this process, with a worker around the hash model.
#include "worker/worker_loop.h"

#include <gtest/gtest.h>

#include <thread>

#include "common/shm/shm_queue.h"
#include "proto/messages.h"
#include "worker/hash_model_for_test.h"
#include "worker/step_for_test.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

StatusOr<std::unique_ptr<Worker>> load_hash_worker() {
  WorkerParts parts;
  parts.links.tensor_parallel = std::make_unique<SoloCollective>();
  parts.model = std::make_unique<HashModel>();
  return make_worker(std::move(parts));
}

class Loop : public ::testing::Test {
 protected:
  void start(const LoadWorker& load) {
    thread_ = std::thread([this, load] {
      shm::ShmReceiver receiver(*steps_, 0);
      shm::ShmSender sender(*results_, 0);
      end_ = run_worker(4, load, receiver, sender);
    });
  }
  ~Loop() override {
    steps_->close();
    if (thread_.joinable()) thread_.join();
  }

  template <typename Message>
  void send(const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    ASSERT_TRUE(to_worker_.send(buffer, deadline()).ok());
  }
  template <typename Message>
  Message receive() {
    const auto record = from_worker_.receive(deadline());
    EXPECT_TRUE(record.ok()) << record.status();
    if (!record.ok()) return {};
    StatusOr<Message> message = wire::unpack<Message>(*record);
    from_worker_.release();
    EXPECT_TRUE(message.ok()) << message.status();
    return message.ok() ? *std::move(message) : Message{};
  }
  Status join() {
    thread_.join();
    return end_;
  }
  static Deadline deadline() { return Deadline::after(std::chrono::seconds(30)); }

  StatusOr<shm::QueueMemory> steps_ = shm::QueueMemory::create("steps", {});
  StatusOr<shm::QueueMemory> results_ = shm::QueueMemory::create("results", {});
  shm::ShmSender to_worker_{*steps_, 0};
  shm::ShmReceiver from_worker_{*results_, 0};
  std::thread thread_;
  Status end_;
};

TEST_F(Loop, gets_ready_allocates_executes_and_stops) {
  start(load_hash_worker);
  EXPECT_EQ(receive<wire::WorkerReady>().error, "");
  send(wire::KvInit{.block_count = 8});
  EXPECT_EQ(receive<wire::StepResult>(), wire::StepResult{});
  StepForTest step;
  wire::SamplingParams greedy{.temperature = 0};
  step.arrive(0, {1, 2, 3}, {5}, greedy).row(0, 0, 3);
  step.input.step = StepId{7};
  send(step.input);
  const auto result = receive<wire::StepResult>();
  EXPECT_EQ(result.step, StepId{7});
  const std::vector<int32_t> prompt = {1, 2, 3};
  EXPECT_EQ(result.row_token, (std::vector<int32_t>{HashModel::next_after(prompt)}));
  send(wire::StopWorker{});
  EXPECT_TRUE(join().ok());
}

TEST_F(Loop, lets_kv_memory_go_and_goes_on_without_what_was_in_it) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::KvInit{.block_count = 8});
  (void)receive<wire::StepResult>();
  const wire::SamplingParams greedy{.temperature = 0};
  const std::vector<int32_t> prompt = {1, 2, 3};
  for (const uint64_t step : {7, 8}) {
    StepForTest input;
    input.arrive(0, prompt, {5}, greedy).row(0, 0, 3);
    input.input.step = StepId{step};
    send(input.input);
    EXPECT_EQ(receive<wire::StepResult>().row_token,
              (std::vector<int32_t>{HashModel::next_after(prompt)}));
    send(wire::ReleaseKv{});
    EXPECT_EQ(receive<wire::StepResult>(), wire::StepResult{});
  }
}

TEST_F(Loop, tells_of_its_experts_between_steps) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::TellExperts{});
  const auto told = receive<wire::StepResult>();
  EXPECT_EQ(told.step, StepId{});
  ASSERT_TRUE(told.expert_table.has_value());
  EXPECT_EQ(*told.expert_table, wire::ExpertTable{}) << "it has none";
}

TEST_F(Loop, takes_waves_without_an_answer_but_for_one_that_it_cannot_join) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::JoinWave{.wave = WaveId{1}, .ranks = {0}});
  send(wire::KvInit{.block_count = 8});
  EXPECT_EQ(receive<wire::StepResult>(), wire::StepResult{});
  send(wire::JoinWave{.wave = WaveId{2}, .ranks = {0, 1}});
  EXPECT_NE(receive<wire::StepResult>().error.find("wave 2 has 2 ranks"), std::string::npos);
  EXPECT_EQ(join().code(), StatusCode::kInternal);
}

TEST_F(Loop, failed_load_is_told_in_the_first_message) {
  start([]() -> StatusOr<std::unique_ptr<Worker>> {
    return error(StatusCode::kNotFound, "no such model");
  });
  const auto ready = receive<wire::WorkerReady>();
  EXPECT_EQ(ready.error, "no such model");
  EXPECT_EQ(ready.rank, 4u);
  EXPECT_EQ(join().code(), StatusCode::kNotFound);
}

TEST_F(Loop, failed_step_is_told_and_ends_the_worker) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::KvInit{.block_count = 8});
  (void)receive<wire::StepResult>();
  send(StepForTest().row(3, 0, 1).input);
  EXPECT_NE(receive<wire::StepResult>().error.find("slot 3, which is empty"), std::string::npos);
  EXPECT_EQ(join().code(), StatusCode::kInternal);
}

TEST_F(Loop, kv_memory_that_cannot_be_had_is_told) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::KvInit{.block_count = 0});
  EXPECT_EQ(receive<wire::StepResult>().error, "KV memory of 0 blocks");
  EXPECT_FALSE(join().ok());
}

TEST_F(Loop, closed_queue_ends_it_quietly) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  steps_->close();
  EXPECT_TRUE(join().ok());
}

TEST_F(Loop, garbage_is_an_error) {
  start(load_hash_worker);
  (void)receive<wire::WorkerReady>();
  send(wire::StepResult{});
  EXPECT_NE(receive<wire::StepResult>().error.find("no message to a worker"), std::string::npos);
  EXPECT_EQ(join().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::worker
