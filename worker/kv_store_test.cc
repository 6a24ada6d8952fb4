// Goal: a block comes back from memory and from a file as it was saved, into any block and to the
// same tokens; a store that fails loses that slot and nothing else; no file is left; a store larger
// than memory or disk is refused with both numbers.
#include "worker/kv_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "worker/hash_model_for_test.h"
#include "worker/step_for_test.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kSlots = 8;
constexpr uint64_t kPlenty = uint64_t{1} << 40;

class Directory {
 public:
  Directory() { EXPECT_NE(::mkdtemp(name_.data()), nullptr); }
  ~Directory() { std::filesystem::remove_all(name_); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool is_empty() const { return std::filesystem::is_empty(name_); }

 private:
  std::string name_ = testing::TempDir() + "trireme-kv-XXXXXX";
};

struct Moves {
  std::vector<int32_t> save_blocks;
  std::vector<uint32_t> save_slots;
  std::vector<int32_t> load_blocks;
  std::vector<uint32_t> load_slots;
};

StepForTest step_with(const Moves& moves) {
  StepForTest step;
  step.input.save_blocks = moves.save_blocks;
  step.input.save_slots = moves.save_slots;
  step.input.load_blocks = moves.load_blocks;
  step.input.load_slots = moves.load_slots;
  return step;
}

std::unique_ptr<Worker> make_with_store(const std::string& directory) {
  WorkerParts parts;
  parts.links.tensor_parallel = std::make_unique<SoloCollective>();
  parts.model = std::make_unique<HashModel>();
  parts.open_store = [directory](uint32_t slot_count, uint64_t slot_bytes, uint64_t) {
    return open_kv_store({.directory = directory,
                          .slot_count = slot_count,
                          .slot_bytes = slot_bytes,
                          .memory_available = kPlenty});
  };
  std::unique_ptr<Worker> worker = make_worker(std::move(parts));
  EXPECT_TRUE(worker->allocate_kv(16).ok());
  const Status opened = worker->open_store(kSlots);
  EXPECT_TRUE(opened.ok()) << opened;
  return worker;
}

wire::StepResult run(Worker& worker, const StepForTest& step) {
  StatusOr<wire::StepResult> result = worker.execute(step.input);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : wire::StepResult{};
}

const std::vector<int32_t> kPrompt = {1, 2, 3, 4, 5, 6, 7, 8, 9};

wire::SamplingParams greedy() {
  wire::SamplingParams params;
  params.temperature = 0;
  return params;
}

class Store : public testing::TestWithParam<bool> {
 protected:
  // Of a step that goes on with the prompt's first two blocks, loaded into others.
  wire::StepResult go_on(Worker& worker) {
    StepForTest step = step_with({.load_blocks = {9, 4}, .load_slots = {7, 0}});
    return run(worker, step.arrive(1, kPrompt, {9, 4, 11}, greedy()).row(1, 8, 1));
  }
  void fill(Worker& worker) {
    run(worker, StepForTest().arrive(0, kPrompt, {3, 4, 5}, greedy()).row(0, 0, 9));
    // Saved in the very step whose forward writes over them.
    StepForTest step = step_with({.save_blocks = {3, 4}, .save_slots = {7, 0}});
    step.input.freed_slots = {0};
    step.arrive(2, {40, 41, 42, 43, 44, 45, 46, 47}, {3, 4, 12}, greedy()).row(2, 0, 8);
    EXPECT_TRUE(run(worker, step).lost_slots.empty());
  }

  Directory directory_;
  std::unique_ptr<Worker> worker_ = make_with_store(GetParam() ? directory_.name() : "");
};

TEST_P(Store, what_was_saved_comes_back_into_any_block_to_the_same_token) {
  fill(*worker_);
  const wire::StepResult result = go_on(*worker_);
  EXPECT_EQ(result.row_token, std::vector<int32_t>{HashModel::next_after(kPrompt)});
  EXPECT_TRUE(result.lost_slots.empty());
  EXPECT_EQ(result.failed_load_count, 0u);
  EXPECT_TRUE(directory_.is_empty()) << "the file has no name";
}

TEST_P(Store, a_save_and_a_load_of_one_slot_in_one_step_are_done_in_this_order) {
  run(*worker_, StepForTest().arrive(0, kPrompt, {3, 4, 5}, greedy()).row(0, 0, 9));
  StepForTest step = step_with(
      {.save_blocks = {3, 4}, .save_slots = {1, 2}, .load_blocks = {4, 3}, .load_slots = {1, 2}});
  step.input.freed_slots = {0};
  step.arrive(1, kPrompt, {4, 3, 5}, greedy()).row(1, 8, 1);
  EXPECT_EQ(run(*worker_, step).row_token, std::vector<int32_t>{HashModel::next_after(kPrompt)});
}

TEST_P(Store, a_slot_that_holds_nothing_is_told_and_the_worker_lives_on) {
  const wire::StepResult result = go_on(*worker_);
  EXPECT_EQ(result.lost_slots, (std::vector<uint32_t>{7, 0}));
  EXPECT_EQ(result.failed_load_count, 2u);
  const auto fresh =
      run(*worker_, StepForTest().arrive(3, kPrompt, {1, 2, 13}, greedy()).row(3, 0, 9));
  EXPECT_EQ(fresh.row_token, std::vector<int32_t>{HashModel::next_after(kPrompt)});
}

TEST_P(Store, moves_that_break_the_protocol_are_named) {
  for (const Moves& moves : {Moves{.save_blocks = {16}, .save_slots = {0}},
                             Moves{.save_blocks = {-1}, .save_slots = {0}},
                             Moves{.load_blocks = {0}, .load_slots = {kSlots}},
                             Moves{.load_blocks = {0, 1}, .load_slots = {1}}}) {
    EXPECT_EQ(worker_->execute(step_with(moves).input).status().code(), StatusCode::kInternal);
  }
}

INSTANTIATE_TEST_SUITE_P(InMemoryAndInAFile, Store, testing::Bool());

// As on a full disk: from the second slot on nothing can be written.
TEST(FileStore, a_slot_that_cannot_be_written_is_lost_and_the_others_stay) {
  const Directory directory;
  const std::unique_ptr<Worker> worker = make_with_store(directory.name());
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit limit = before;
  limit.rlim_cur = 64;
  run(*worker, StepForTest().arrive(0, kPrompt, {3, 4, 5}, greedy()).row(0, 0, 9));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const wire::StepResult saved =
      run(*worker, step_with({.save_blocks = {3, 4}, .save_slots = {0, 1}}));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(saved.lost_slots, std::vector<uint32_t>{1});
  EXPECT_EQ(saved.failed_load_count, 0u);
  const wire::StepResult loaded =
      run(*worker, step_with({.load_blocks = {7, 8}, .load_slots = {0, 1}}));
  EXPECT_EQ(loaded.lost_slots, std::vector<uint32_t>{1});
  EXPECT_EQ(loaded.failed_load_count, 1u);
}

TEST(KvStore, more_than_there_is_is_refused_with_both_numbers) {
  constexpr uint64_t kMib = 1 << 20;
  const auto in_memory = open_kv_store(
      {.slot_count = 1024, .slot_bytes = kMib, .sharers = 2, .memory_available = 1536 * kMib});
  ASSERT_EQ(in_memory.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(in_memory.status().message().find("2.00 GiB"), std::string::npos);
  EXPECT_NE(in_memory.status().message().find("1.50 GiB"), std::string::npos);
  const Directory directory;
  const auto on_disk = open_kv_store(
      {.directory = directory.name(), .slot_count = 1U << 30, .slot_bytes = uint64_t{1} << 30});
  ASSERT_EQ(on_disk.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(on_disk.status().message().find("1073741824.00 GiB"), std::string::npos);
  EXPECT_TRUE(directory.is_empty());
}

TEST(KvStore, a_directory_that_is_not_there_is_named) {
  const auto store = open_kv_store({.directory = "/nowhere/kv", .slot_count = 1, .slot_bytes = 64});
  EXPECT_EQ(store.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(store.status().message().find("/nowhere/kv"), std::string::npos);
}

}  // namespace
}  // namespace trireme::worker
