// Goal: data-parallel ranks on two nodes divide their experts, and give the tokens of one worker
// alone; a wave that is left goes on in the next. Method: workers as threads over the descriptors
// of real processes, a mesh for each node, loopback between them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <thread>

#include "common/shm/shm_queue.h"
#include "common/zmq/context.h"
#include "proto/messages.h"
#include "worker/comm/shm_mesh.h"
#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/step_for_test.h"
#include "worker/tiny_model_for_test.h"
#include "worker/worker.h"
#include "worker/worker_process.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kOutputTokens = 6;
const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5};

Deadline patient() { return Deadline::after(std::chrono::seconds(50)); }

wire::StepInput step_for(const std::vector<int32_t>& tokens) {
  if (tokens == kPrompt) {
    return StepForTest()
        .arrive(1, kPrompt, {2, 0}, {.temperature = 0, .logprobs = 0})
        .row(1, 0, static_cast<uint32_t>(kPrompt.size()))
        .input;
  }
  const auto last = static_cast<uint32_t>(tokens.size()) - 1;
  return StepForTest().row(1, last, 1).row_known(last, {tokens[last]}).input;
}

ServeOptions options_of(const std::string& model) {
  ServeOptions options;
  options.model.model = model;
  options.worker.cpu_threads_bind = "nobind";
  return options;
}

// A rank of one worker, alone on its node.
class RankOnNode {
 public:
  RankOnNode(const std::string& model, uint32_t rank, uint32_t rank_count)
      : steps_(shm::QueueMemory::create("steps", {})),
        results_(shm::QueueMemory::create("results", {})),
        mesh_(ShmMesh::create_memory({.first_place = rank, .place_count = 1})),
        rank_(rank),
        sender_(*steps_, 0),
        receiver_(*results_, 0) {
    const WorkerFlags flags{.steps_fd = ::dup(steps_->fd()),
                            .results_fd = ::dup(results_->fd()),
                            .mesh_fd = ::dup(mesh_->fd())};
    ServeOptions options = options_of(model);
    options.parallel.expert_parallel = true;
    options.parallel.headless = true;
    options.parallel.data_parallel_size = rank_count;
    options.parallel.data_parallel_size_local = 1;
    options.parallel.data_parallel_start_rank = rank;
    options.parallel.data_parallel_address = "127.0.0.1";
    options.internal.engine_rank = rank;
    thread_ = std::jthread([flags, options] {
      cpu::CpuFactory factory;
      const Status end = run_worker_process(flags, options, factory);
      EXPECT_TRUE(end.ok()) << end;
    });
  }
  ~RankOnNode() { steps_->close(); }

  void abandon(WaveId below) { EXPECT_TRUE(ShmMesh::abandon(*mesh_, rank_, 1, below).ok()); }
  template <typename Message>
  void send(const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    EXPECT_TRUE(sender_.send(buffer, patient()).ok());
  }
  template <typename Message>
  Message receive() {
    const auto record = receiver_.receive(patient());
    EXPECT_TRUE(record.ok()) << record.status();
    if (!record.ok()) return {};
    StatusOr<Message> message = wire::unpack<Message>(*record);
    receiver_.release();
    EXPECT_TRUE(message.ok()) << message.status();
    if (!message.ok()) return {};
    EXPECT_EQ(message->error, "");
    return *std::move(message);
  }

 private:
  StatusOr<shm::QueueMemory> steps_;
  StatusOr<shm::QueueMemory> results_;
  StatusOr<shm::Mapping> mesh_;
  const uint32_t rank_;
  shm::ShmSender sender_;
  shm::ShmReceiver receiver_;
  std::jthread thread_;
};

std::vector<int32_t> tokens_alone(const std::string& model) {
  auto worker = Worker::load(options_of(model), {}, std::make_unique<SoloCollective>(),
                             [](std::string_view, double) {});
  EXPECT_TRUE(worker.ok()) << worker.status();
  EXPECT_TRUE((*worker)->allocate_kv(4).ok());
  std::vector<int32_t> tokens = kPrompt;
  for (uint32_t i = 0; i < kOutputTokens; ++i) {
    const auto result = (*worker)->execute(step_for(tokens));
    EXPECT_TRUE(result.ok()) << result.status();
    tokens.push_back(result->row_token[0]);
  }
  return tokens;
}

TEST(WorkerNodes, ranks_of_two_nodes_give_the_tokens_of_one_worker_in_wave_after_wave) {
  TestDirectory directory;
  write_tiny_mixture(directory);
  // The ranks are threads here, each with a context: the last of a process to go destroys libpgm's
  // locks, in an order that ThreadSanitizer cannot see. This one outlives theirs.
  const auto last_context = zmq::Context::create({});
  ASSERT_TRUE(last_context.ok()) << last_context.status();
  std::deque<RankOnNode> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) ranks.emplace_back(directory.path(), rank, 2U);
  std::vector<std::string> endpoints;
  for (RankOnNode& rank : ranks) {
    endpoints.push_back(rank.receive<wire::WorkerReady>().expert_endpoint);
    EXPECT_TRUE(endpoints.back().starts_with("tcp://127.0.0.1:")) << endpoints.back();
    rank.send(wire::KvInit{.block_count = 4});
    (void)rank.receive<wire::StepResult>();
  }
  const auto join = [&](WaveId wave) {
    ranks[0].send(wire::JoinWave{.wave = wave, .ranks = {0, 1}, .endpoints = {"", endpoints[1]}});
    ranks[1].send(wire::JoinWave{.wave = wave, .ranks = {0, 1}, .endpoints = {endpoints[0], ""}});
  };
  std::vector<int32_t> tokens = kPrompt;
  WaveId wave{1};
  join(wave);
  for (uint32_t i = 0; i < kOutputTokens; ++i) {
    // The first rank's request, while the second has none.
    wire::StepInput step = step_for(tokens);
    step.wave = wave;
    ranks[0].send(step);
    if (i % 2 == 1) {
      for (RankOnNode& rank : ranks) rank.abandon(wave.next());
      EXPECT_TRUE(ranks[0].receive<wire::StepResult>().is_abandoned);
      wave = wave.next();
      join(wave);
      ranks[0].send(wire::StepInput{.wave = wave, .kind = wire::StepKind::kAgain});
    }
    ranks[1].send(wire::StepInput{.wave = wave, .kind = wire::StepKind::kDummy});
    EXPECT_FALSE(ranks[1].receive<wire::StepResult>().is_abandoned);
    const auto result = ranks[0].receive<wire::StepResult>();
    ASSERT_EQ(result.row_token.size(), 1U);
    tokens.push_back(result.row_token[0]);
  }
  for (RankOnNode& rank : ranks) rank.send(wire::StopWorker{});
  ranks.clear();
  EXPECT_EQ(tokens, tokens_alone(directory.path()));
}

}  // namespace
}  // namespace trireme::worker
