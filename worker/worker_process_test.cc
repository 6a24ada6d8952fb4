// Real worker processes over real queues: an engine's ranks, joined by tensor and pipeline
// parallelism, give the tokens of one worker alone. So do engines whose workers divide their
// experts (as threads of this process, but over the same descriptors).
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <thread>

#include "common/process/child_process.h"
#include "common/process/sibling_binary.h"
#include "common/shm/shm_queue.h"
#include "proto/messages.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/step_for_test.h"
#include "worker/tiny_model_for_test.h"
#include "worker/worker.h"
#include "worker/worker_flags.h"
#include "worker/worker_process.h"

namespace trireme::worker {
namespace {

Deadline patient() { return Deadline::after(std::chrono::seconds(50)); }

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5};
constexpr uint32_t kOutputTokens = 12;

wire::StepInput step_for(uint32_t position, const std::vector<int32_t>& tokens) {
  if (position == 0) {
    return StepForTest()
        .arrive(1, kPrompt, {2, 0}, {.temperature = 0, .logprobs = 0})
        .row(1, 0, static_cast<uint32_t>(kPrompt.size()))
        .input;
  }
  return StepForTest().row(1, position, 1).row_known(position, {tokens[position]}).input;
}

// The ranks of one engine, started as an engine starts them.
class Ranks {
 public:
  Ranks(const std::string& model, uint32_t tp, uint32_t pp)
      : count_(tp * pp),
        steps_(shm::QueueMemory::create("steps", {.reader_count = tp * pp})),
        results_(shm::QueueMemory::create("results", {.ring_count = tp * pp})),
        sender_(*steps_, 0),
        collector_(*results_) {
    auto program = process::find_sibling_binary("worker");
    EXPECT_TRUE(program.ok()) << program.status();
    std::vector<StatusOr<shm::Mapping>> memory;
    for (uint32_t stage = 0; stage < pp; ++stage) {
      memory.push_back(ShmCollective::create_memory(tp));
    }
    for (uint32_t pipe = 0; pipe < tp * (pp - 1); ++pipe)
      memory.push_back(ShmPipe::create_memory());
    for (uint32_t rank = 0; rank < count_; ++rank) {
      const uint32_t stage = rank / tp;
      WorkerFlags flags{.steps_fd = steps_->fd(), .results_fd = results_->fd(), .rank = rank};
      flags.collective_fd = memory[stage]->fd();
      if (stage > 0) flags.pipe_in_fd = memory[pp + rank - tp]->fd();
      if (stage + 1 < pp) flags.pipe_out_fd = memory[pp + rank]->fd();
      process::ChildOptions child{.argv = worker_arguments(flags)};
      child.argv.insert(child.argv.begin(), *program);
      for (const std::string& argument :
           {model, std::string("--tensor-parallel-size"), std::to_string(tp),
            std::string("--pipeline-parallel-size"), std::to_string(pp)}) {
        child.argv.push_back(argument);
      }
      for (const int fd : {flags.steps_fd, flags.results_fd, flags.collective_fd, flags.pipe_in_fd,
                           flags.pipe_out_fd}) {
        if (fd >= 0) child.inherited_fds.push_back(fd);
      }
      auto spawned = process::ChildProcess::spawn(child);
      EXPECT_TRUE(spawned.ok()) << spawned.status();
      if (spawned.ok()) children_.push_back(*std::move(spawned));
    }
  }

  template <typename Message>
  void send(const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    EXPECT_TRUE(sender_.send(buffer, patient()).ok());
  }
  // One of each rank, by rank.
  template <typename Message>
  std::vector<Message> receive_all() {
    std::vector<Message> all(count_);
    for (uint32_t i = 0; i < count_; ++i) {
      const auto received = collector_.receive(patient());
      EXPECT_TRUE(received.ok()) << received.status();
      if (!received.ok()) break;
      StatusOr<Message> message = wire::unpack<Message>(received->record);
      EXPECT_TRUE(message.ok()) << message.status();
      if (message.ok()) all[received->ring] = *std::move(message);
      collector_.release();
    }
    return all;
  }
  std::vector<int> wait_for_exits() {
    std::vector<int> codes;
    for (process::ChildProcess& child : children_) {
      const auto exit = child.wait(patient());
      codes.push_back(exit.ok() ? exit->code : -1);
    }
    return codes;
  }

 private:
  uint32_t count_;
  StatusOr<shm::QueueMemory> steps_;
  StatusOr<shm::QueueMemory> results_;
  shm::ShmSender sender_;
  shm::ShmCollector collector_;
  std::vector<process::ChildProcess> children_;
};

// A data-parallel rank of one worker, of several that divide their experts.
class RankOfWave {
 public:
  RankOfWave(const std::string& model, const MeshForTest& mesh, uint32_t rank, uint32_t rank_count)
      : steps_(shm::QueueMemory::create("steps", {})),
        results_(shm::QueueMemory::create("results", {})),
        sender_(*steps_, 0),
        receiver_(*results_, 0) {
    const WorkerFlags flags{.steps_fd = ::dup(steps_->fd()),
                            .results_fd = ::dup(results_->fd()),
                            .mesh_fd = ::dup(mesh.memory().fd())};
    ServeOptions options;
    options.model.model = model;
    options.worker.cpu_threads_bind = "nobind";
    options.parallel.expert_parallel = true;
    options.parallel.data_parallel_size = rank_count;
    options.internal.engine_rank = rank;
    thread_ = std::jthread([flags, options] {
      cpu::CpuFactory factory;
      const Status end = run_worker_process(flags, options, factory);
      EXPECT_TRUE(end.ok()) << end;
    });
  }

  ~RankOfWave() { steps_->close(); }

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
  shm::ShmSender sender_;
  shm::ShmReceiver receiver_;
  std::jthread thread_;
};

class WorkerProcess : public ::testing::Test {
 protected:
  WorkerProcess() { write_tiny_model(directory_, "LlamaForCausalLM"); }

  std::vector<int32_t> tokens_alone() const {
    ServeOptions options;
    options.model.model = directory_.path();
    options.worker.cpu_threads_bind = "nobind";
    auto worker = Worker::load(options, {}, std::make_unique<SoloCollective>(),
                               [](std::string_view, double) {});
    EXPECT_TRUE(worker.ok()) << worker.status();
    EXPECT_TRUE((*worker)->allocate_kv(4).ok());
    std::vector<int32_t> tokens = kPrompt;
    for (uint32_t i = 0; i < kOutputTokens; ++i) {
      const uint32_t position = i == 0 ? 0 : static_cast<uint32_t>(tokens.size()) - 1;
      const auto result = (*worker)->execute(step_for(position, tokens));
      EXPECT_TRUE(result.ok()) << result.status();
      tokens.push_back(result->row_token[0]);
    }
    return tokens;
  }

  std::vector<int32_t> tokens_of(uint32_t tp, uint32_t pp) const {
    Ranks ranks(directory_.path(), tp, pp);
    for (const auto& ready : ranks.receive_all<wire::WorkerReady>()) EXPECT_EQ(ready.error, "");
    ranks.send(wire::KvInit{.block_count = 4});
    for (const auto& done : ranks.receive_all<wire::StepResult>()) EXPECT_EQ(done.error, "");
    std::vector<int32_t> tokens = kPrompt;
    for (uint32_t i = 0; i < kOutputTokens; ++i) {
      const uint32_t position = i == 0 ? 0 : static_cast<uint32_t>(tokens.size()) - 1;
      ranks.send(step_for(position, tokens));
      const auto results = ranks.receive_all<wire::StepResult>();
      const uint32_t reporting = tp * (pp - 1);  // First rank of the last stage.
      const wire::StepResult& result = results[reporting];
      EXPECT_EQ(result.error, "");
      if (result.row_token.size() != 1) return tokens;
      EXPECT_EQ(result.logprobs.size(), 1u);
      for (uint32_t rank = reporting; rank < tp * pp; ++rank) {
        EXPECT_EQ(results[rank].row_token, result.row_token) << "ranks of a stage agree";
      }
      tokens.push_back(result.row_token[0]);
    }
    ranks.send(wire::StopWorker{});
    for (const int code : ranks.wait_for_exits()) EXPECT_EQ(code, 0);
    return tokens;
  }

  TestDirectory directory_;
};

TEST_F(WorkerProcess, one_gives_the_tokens_of_a_worker_in_this_process) {
  EXPECT_EQ(tokens_of(1, 1), tokens_alone());
}

TEST_F(WorkerProcess, tensor_parallel_ranks_give_the_tokens_of_one) {
  EXPECT_EQ(tokens_of(2, 1), tokens_alone());
}

TEST_F(WorkerProcess, pipeline_stages_give_the_tokens_of_one) {
  EXPECT_EQ(tokens_of(1, 2), tokens_alone());
}

TEST_F(WorkerProcess, both_at_once_give_the_tokens_of_one) {
  EXPECT_EQ(tokens_of(2, 2), tokens_alone());
}

TEST_F(WorkerProcess, ranks_that_divide_their_experts_give_the_tokens_of_one) {
  write_tiny_mixture(directory_);
  const MeshForTest mesh(2);
  std::deque<RankOfWave> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) ranks.emplace_back(directory_.path(), mesh, rank, 2);
  for (RankOfWave& rank : ranks) {
    (void)rank.receive<wire::WorkerReady>();
    rank.send(wire::KvInit{.block_count = 4});
    (void)rank.receive<wire::StepResult>();
    rank.send(wire::JoinWave{.wave = WaveId{1}, .ranks = {0, 1}});
  }
  std::vector<int32_t> tokens = kPrompt;
  for (uint32_t i = 0; i < kOutputTokens; ++i) {
    // The first rank's request, while the second has none; then once more in the next wave.
    wire::StepInput step = step_for(i == 0 ? 0 : static_cast<uint32_t>(tokens.size()) - 1, tokens);
    step.wave = WaveId{1 + i};
    ranks[0].send(step);
    mesh.abandon(1, 1, WaveId{2 + i});
    ranks[1].send(wire::StepInput{.wave = WaveId{1 + i}, .kind = wire::StepKind::kDummy});
    EXPECT_TRUE(ranks[1].receive<wire::StepResult>().is_abandoned);
    mesh.abandon(0, 1, WaveId{2 + i});
    EXPECT_TRUE(ranks[0].receive<wire::StepResult>().is_abandoned);
    for (RankOfWave& rank : ranks) {
      rank.send(wire::JoinWave{.wave = WaveId{2 + i}, .ranks = {0, 1}});
      rank.send(wire::StepInput{.wave = WaveId{2 + i}, .kind = wire::StepKind::kAgain});
    }
    EXPECT_FALSE(ranks[1].receive<wire::StepResult>().is_abandoned);
    const auto result = ranks[0].receive<wire::StepResult>();
    ASSERT_EQ(result.row_token.size(), 1u);
    tokens.push_back(result.row_token[0]);
  }
  for (RankOfWave& rank : ranks) rank.send(wire::StopWorker{});
  ranks.clear();
  EXPECT_EQ(tokens, tokens_alone());
}

TEST_F(WorkerProcess, model_that_is_not_there_is_told_and_ends_the_process) {
  Ranks ranks("/no/such/model", 1, 1);
  EXPECT_NE(ranks.receive_all<wire::WorkerReady>()[0].error.find("/no/such/model"),
            std::string::npos);
  EXPECT_EQ(ranks.wait_for_exits(), (std::vector<int>{1}));
}

}  // namespace
}  // namespace trireme::worker
