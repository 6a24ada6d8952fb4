// Data-parallel ranks of a golden mixture whose experts are divided, in lockstep as engines keep
// it: every worker is a thread for the time of a step, joined by the links of real processes. A
// wave can be left at any transfer; who had a worker that noticed runs its step again in the next
// one.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "tests/numerics/model_for_test.h"
#include "tests/numerics/store_for_test.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/step_for_test.h"
#include "worker/worker_core.h"

namespace trireme::worker {

// What one request wants.
struct Wish {
  std::vector<int32_t> prompt;
  uint32_t outputs = 4;
  uint32_t chunk = 64;      // Prompt tokens in a step.
  uint32_t arrives_at = 0;  // The step.
  wire::SamplingParams sampling;
  std::vector<int32_t> hints;  // Output tokens that are guessed, not always rightly.
};

struct Told {
  std::vector<int32_t> tokens;
  std::vector<wire::TokenLogprobs> logprobs;
  std::vector<wire::TokenLogprobs> prompt_logprobs;
  friend bool operator==(const Told&, const Told&) = default;
};

// The engine of one rank: makes steps of its wishes, takes in their results.
class RankForTest {
 public:
  static constexpr uint32_t kBlocksEach = 3;

  explicit RankForTest(std::vector<Wish> wishes) : wishes_(std::move(wishes)) {
    told.resize(wishes_.size());
    computed_.resize(wishes_.size());
  }

  [[nodiscard]] bool is_done() const {
    for (std::size_t i = 0; i < wishes_.size(); ++i) {
      if (told[i].tokens.size() < wishes_[i].outputs) return false;
    }
    return true;
  }

  [[nodiscard]] wire::StepInput next_step(uint32_t number) {
    StepForTest step;
    rows_.clear();
    for (uint32_t i = 0; i < wishes_.size(); ++i) {
      const Wish& wish = wishes_[i];
      if (wish.arrives_at > number || told[i].tokens.size() >= wish.outputs) continue;
      const auto prompt_count = static_cast<uint32_t>(wish.prompt.size());
      if (computed_[i] >= prompt_count) {
        add_decode(i, step);
        continue;
      }
      std::vector<int32_t> blocks(kBlocksEach);
      std::iota(blocks.begin(), blocks.end(), static_cast<int32_t>(i * kBlocksEach));
      if (computed_[i] == 0) step.arrive(i, wish.prompt, blocks, wish.sampling);
      const uint32_t count = std::min(wish.chunk, prompt_count - computed_[i]);
      step.row(i, computed_[i], count, computed_[i] + count == prompt_count);
      rows_.push_back({i, count, {}});
    }
    if (rows_.empty()) step.input.kind = wire::StepKind::kDummy;
    step.input.step = StepId{number + 1};
    return step.input;
  }

  void take(const wire::StepResult& result) {
    ASSERT_EQ(result.row_token.size(), rows_.size());
    for (uint32_t row = 0; row < rows_.size(); ++row) {
      const Row& of = rows_[row];
      Told& to = told[of.wish];
      const uint32_t accepted = result.row_accepted.empty() ? 0 : result.row_accepted[row];
      to.tokens.insert(to.tokens.end(), of.drafts.begin(), of.drafts.begin() + accepted);
      if (result.row_token[row] != wire::kNoToken) to.tokens.push_back(result.row_token[row]);
      computed_[of.wish] += of.count + accepted;
      accepted_count += accepted;
    }
    for (const wire::RowLogprobs& row : result.logprobs) {
      Told& to = told[rows_[row.row].wish];
      to.logprobs.insert(to.logprobs.end(), row.sampled.begin(), row.sampled.end());
      to.prompt_logprobs.insert(to.prompt_logprobs.end(), row.prompt.begin(), row.prompt.end());
    }
  }

  std::vector<Told> told;
  uint32_t accepted_count = 0;

 private:
  struct Row {
    uint32_t wish;
    uint32_t count;
    std::vector<int32_t> drafts;
  };

  void add_decode(uint32_t i, StepForTest& step) {
    const std::vector<int32_t>& tokens = told[i].tokens;
    step.row(i, computed_[i], 1).row_known(computed_[i], {tokens.back()});
    Row& row = rows_.emplace_back(Row{i, 1, {}});
    const Wish& wish = wishes_[i];
    const std::size_t at = tokens.size();
    if (at + 2 >= wish.hints.size() || at + 2 >= wish.outputs) return;
    row.drafts = {wish.hints[at], at % 3 == 0 ? wish.hints[at + 1] : 1};
    step.row_drafts(row.drafts);
  }

  std::vector<Wish> wishes_;
  std::vector<uint32_t> computed_;
  std::vector<Row> rows_;  // Of the step.
};

struct RanksShape {
  uint32_t dp = 1;
  uint32_t tp = 1;
  uint32_t pp = 1;
  bool divides_experts = true;
  std::optional<BalancerConfig> balancing;  // Of how many layers and experts, the model says.
  std::string dtype = "auto";
  uint32_t node_ranks = 64;  // Ranks of a node: experts of the others are not in its memory.
  std::string draft = {};    // The golden model that guesses on the first stage; empty: none.
  uint32_t block_count = 24;
  uint32_t store_slot_count = 0;  // Of the store behind each worker's KV memory; 0: none.
};

// A Rank is an engine as RankForTest is one: it makes steps (next_step) and takes in what came of
// them (take) until it is_done.
class RanksInStep {
 public:
  RanksInStep(const std::string& name, const RanksShape& shape)
      : shape_(shape), directory_(open_golden(name)), kept_(shape.dp) {
    if (!shape.draft.empty()) draft_.emplace(open_golden(shape.draft));
    for (uint32_t stage = 0; stage < shape.pp; ++stage) meshes_.emplace_back(places(), 1024);
    for (uint32_t rank = 0; rank < shape.dp; ++rank) {
      members_.push_back(rank);
      add_workers(rank);
    }
  }

  // Of the workers of a rank, without experts that were taken over.
  [[nodiscard]] uint64_t weight_bytes(uint32_t rank) const {
    uint64_t bytes = 0;
    for (const auto& worker : workers_[rank]) bytes += worker->ready().weight_bytes;
    return bytes;
  }
  // Of the waves from the next one on.
  void set_members(std::vector<uint32_t> ranks) {
    members_ = std::move(ranks);
    must_join_ = true;
  }
  // Leaves a wave at so many transfers from now, of all workers together.
  void leave_after(int64_t transfers) { transfers_left_ = transfers; }

  // A step of each member. Not a rank that does not know yet what came of it.
  template <typename Rank>
  void run_step(std::vector<Rank>& ranks) {
    if (must_join_) join_next_wave();
    std::vector<wire::StepInput> steps(shape_.dp);
    for (const uint32_t rank : members_) {
      if (!again_.contains(rank)) {
        steps[rank] = kept_[rank] = ranks[rank].next_step(number_);
      } else {
        steps[rank].kind = wire::StepKind::kAgain;
        steps[rank].step = StepId{number_ + 1};
      }
      steps[rank].wave = wave_;
    }
    ++number_;
    const auto results = execute(steps);
    again_.clear();
    for (const uint32_t rank : members_) take(rank, results[rank], ranks[rank]);
    if (has_left_.exchange(false)) {
      leave_wave();
      must_join_ = true;
    }
  }

  // Until all are through; the seed says where waves are left.
  template <typename Rank>
  void run_all(std::vector<Rank>& ranks, std::optional<uint64_t> seed = std::nullopt) {
    Random random(seed.value_or(0));
    const auto is_done = [](const Rank& rank) { return rank.is_done(); };
    while (!std::ranges::all_of(ranks, is_done) && !::testing::Test::HasFailure()) {
      if (seed && random.below(2) == 0) {
        leave_after(static_cast<int64_t>(random.below(4 * places() * shape_.pp)));
      }
      run_step(ranks);
    }
  }

  // Experts that came to some worker.
  [[nodiscard]] uint64_t moves() const {
    uint64_t sum = 0;
    for (const auto& [worker, count] : moves_) sum += count;
    return sum;
  }

  uint32_t steps_again = 0;
  uint32_t steps_again_with_drafts = 0;
  uint32_t steps_again_with_moves = 0;  // Of blocks, between KV memory and the store.

 private:
  // Links that leave the wave when their turn has come, of their stage at first, as engines go from
  // one to the next; the others when a worker of the last one has said that it left.
  class LeavingLinks final : public ExpertLinks {
   public:
    LeavingLinks(std::unique_ptr<ShmMesh> inner, RanksInStep& ranks, uint32_t stage)
        : inner_(std::move(inner)), ranks_(ranks), stage_(stage) {}
    [[nodiscard]] uint32_t place() const override { return inner_->place(); }
    [[nodiscard]] uint32_t rank() const override { return inner_->rank(); }
    [[nodiscard]] uint32_t size() const override { return inner_->size(); }
    [[nodiscard]] Status transfer(std::span<const OutgoingPieces> outgoing,
                                  IncomingPieces& incoming) override {
      if (ranks_.transfers_left_-- == 0) ranks_.leave_wave(ranks_.meshes_[stage_]);
      return inner_->transfer(outgoing, incoming);
    }

   private:
    [[nodiscard]] Status enter_wave(WaveId wave, std::span<const uint32_t> members,
                                    std::span<const std::string> addresses) override {
      return inner_->join(wave, members, addresses);
    }
    std::unique_ptr<ShmMesh> inner_;
    RanksInStep& ranks_;
    const uint32_t stage_;
  };

  // What a worker stands on, in the order in which it goes.
  struct Foundation {
    std::unique_ptr<ThreadPool> pool = std::make_unique<ThreadPool>(1);
  };
  using OfRank = std::vector<StatusOr<wire::StepResult>>;

  [[nodiscard]] uint32_t places() const { return shape_.dp * shape_.tp; }

  void leave_wave(const MeshForTest& mesh) {
    mesh.abandon(0, places(), wave_.next());
    has_left_ = true;
  }
  void leave_wave() {
    for (const MeshForTest& mesh : meshes_) leave_wave(mesh);
  }

  void join_next_wave() {
    wave_ = wave_.next();
    must_join_ = false;
    has_left_ = false;
    if (!shape_.divides_experts) return;
    for (const uint32_t rank : members_) {
      for (const auto& worker : workers_[rank]) {
        const Status status = worker->join_wave({.wave = wave_, .ranks = members_});
        ASSERT_TRUE(status.ok()) << status;
      }
    }
  }

  // By tp_rank + tp · pp_rank, for each member.
  [[nodiscard]] std::vector<OfRank> execute(const std::vector<wire::StepInput>& steps) {
    std::vector<OfRank> results(shape_.dp);
    std::vector<std::jthread> threads;
    for (const uint32_t rank : members_) {
      results[rank].resize(workers_[rank].size());
      for (std::size_t i = 0; i < workers_[rank].size(); ++i) {
        threads.emplace_back([&, rank, i] {
          results[rank][i] = workers_[rank][i]->execute(steps[rank]);
          const bool is_of_last = i >= std::size_t{shape_.tp} * (shape_.pp - 1);
          const auto& result = results[rank][i];
          if (is_of_last && result.ok() && result->is_abandoned) leave_wave();
        });
      }
    }
    threads.clear();
    return results;
  }

  template <typename Rank>
  void take(uint32_t rank, const OfRank& results, Rank& to) {
    bool is_abandoned = false;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& result = results[i];
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->expert_load) moves_[{rank, i}] = result->expert_load->moves;
      EXPECT_EQ(result->step, StepId{number_});
      is_abandoned = is_abandoned || result->is_abandoned;
    }
    if (is_abandoned) {
      again_.insert(rank);
      count_again(kept_[rank]);
      return;
    }
    const std::size_t reporting = std::size_t{shape_.tp} * (shape_.pp - 1);
    for (std::size_t i = reporting; i < results.size(); ++i) {
      EXPECT_EQ(results[i]->row_token, results[reporting]->row_token) << "ranks of a stage agree";
    }
    to.take(*results[reporting]);
  }

  void count_again(const wire::StepInput& step) {
    ++steps_again;
    steps_again_with_drafts += step.row_draft_count.empty() ? 0 : 1;
    steps_again_with_moves += step.save_blocks.empty() && step.load_blocks.empty() ? 0 : 1;
  }

  void add_workers(uint32_t rank) {
    const uint32_t tp = shape_.tp;
    auto& workers = workers_.emplace_back();
    std::vector<std::shared_ptr<const shm::Mapping>> pipes(tp);
    for (uint32_t stage = 0; stage < shape_.pp; ++stage) {
      const auto group = shared(ShmCollective::create_memory(tp));
      for (uint32_t tp_rank = 0; tp_rank < tp; ++tp_rank) {
        WorkerParts parts;
        parts.place = {.tp_rank = tp_rank, .tp_size = tp, .pp_rank = stage, .pp_size = shape_.pp};
        parts.links.tensor_parallel = *ShmCollective::attach(group, tp_rank, tp, kLimit);
        if (stage > 0) {
          parts.links.from_previous = *ShmPipe::attach(pipes[tp_rank], stage - 1, kLimit);
        }
        if (stage + 1 < shape_.pp) {
          pipes[tp_rank] = shared(ShmPipe::create_memory());
          parts.links.to_next = *ShmPipe::attach(pipes[tp_rank], stage + 1, kLimit);
        }
        if (shape_.divides_experts) {
          auto links = std::make_unique<LeavingLinks>(meshes_[stage].links(rank * tp + tp_rank),
                                                      *this, stage);
          parts.links.experts =
              std::make_unique<ExpertExchange>(std::move(links), places(), LifeSigns());
        }
        workers.push_back(make(std::move(parts), rank));
      }
    }
  }

  [[nodiscard]] std::unique_ptr<Worker> make(WorkerParts parts, uint32_t rank) const {
    ExpertHome home;
    if (shape_.divides_experts) {
      home = {.place_count = places(),
              .tp_size = shape_.tp,
              .tp_rank = parts.place.tp_rank,
              .first_rank = rank / shape_.node_ranks * shape_.node_ranks,
              .rank_count = shape_.node_ranks};
    }
    auto foundation = std::make_shared<Foundation>();
    Collective& collective = *parts.links.tensor_parallel;
    const auto load = [&](const ModelDirectory& directory, const WorkerPlace& place,
                          ExpertExchange* experts, const ExpertHome& expert_home) {
      auto model = load_model(
          directory, place, {.dtype = shape_.dtype, .experts = experts, .expert_home = expert_home},
          collective, *foundation->pool, {});
      EXPECT_TRUE(model.ok()) << model.status();
      return std::move(model).value();
    };
    parts.model = load(directory_, parts.place, parts.links.experts.get(), home);
    if (shape_.balancing) {
      BalancerConfig balancing = *shape_.balancing;
      balancing.layer_count = parts.model->mixture_layer_count();
      balancing.expert_count = directory_.config().expert_count;
      parts.links.experts->balance(balancing, home);
    }
    if (draft_) {
      parts.draft.emplace();
      parts.draft->tokens_max = kDraftTokensMax;
      const WorkerPlace alike{.tp_rank = parts.place.tp_rank, .tp_size = parts.place.tp_size};
      if (parts.place.pp_rank == 0) parts.draft->model = load(*draft_, alike, nullptr, {});
    }
    parts.foundation = std::move(foundation);
    parts.logits_rows_max = 4;
    if (shape_.store_slot_count > 0) parts.open_store = open_store_for_test;
    auto worker = make_worker(std::move(parts));
    EXPECT_TRUE(worker->allocate_kv(shape_.block_count).ok());
    if (shape_.store_slot_count == 0) return worker;
    EXPECT_TRUE(worker->open_store(shape_.store_slot_count).ok());
    return worker;
  }

  [[nodiscard]] static std::shared_ptr<const shm::Mapping> shared(StatusOr<shm::Mapping> memory) {
    EXPECT_TRUE(memory.ok()) << memory.status();
    return std::make_shared<const shm::Mapping>(*std::move(memory));
  }

  static constexpr Duration kLimit = std::chrono::seconds(50);
  static constexpr uint32_t kDraftTokensMax = 64;

  const RanksShape shape_;
  const ModelDirectory directory_;
  std::optional<ModelDirectory> draft_;
  std::vector<MeshForTest> meshes_;  // By stage.
  std::vector<std::vector<std::unique_ptr<Worker>>> workers_;
  std::vector<uint32_t> members_;
  std::set<uint32_t> again_;                                    // Ranks whose step was abandoned.
  std::map<std::pair<uint32_t, std::size_t>, uint64_t> moves_;  // By rank and worker.
  std::vector<wire::StepInput> kept_;  // By rank: the latest step that was not kAgain.
  WaveId wave_{};
  uint32_t number_ = 0;
  bool must_join_ = true;
  std::atomic<int64_t> transfers_left_{-1};
  std::atomic<bool> has_left_{false};
};

}  // namespace trireme::worker
