// CounterBoard: what one life writes is there for its siblings and for the next life.
// Method: several attachments of one board in one process, as several processes have them.
#include "api_server/counters/counter_board.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace trireme::api {
namespace {

CounterBoard attach(const CounterBoard& board, uint32_t slot) {
  return *CounterBoard::attach(UniqueFd(::dup(board.fd())), slot);
}

TEST(CounterBoard, a_sibling_reads_what_was_written_last) {
  const CounterBoard board = *CounterBoard::create(3, 8);
  CounterBoard first = attach(board, 0);
  const CounterBoard second = attach(board, 1);
  EXPECT_TRUE(second.read(0).empty());
  first.write(std::vector<uint64_t>{1, 2});
  first.write(std::vector<uint64_t>{3, 4, 5});
  EXPECT_EQ(second.read(0), (std::vector<uint64_t>{3, 4, 5}));
  EXPECT_TRUE(second.read(2).empty());
}

TEST(CounterBoard, the_next_life_finds_what_the_last_one_counted) {
  const CounterBoard board = *CounterBoard::create(2, 8);
  attach(board, 1).write(std::vector<uint64_t>{7});
  EXPECT_EQ(attach(board, 1).base(), std::vector<uint64_t>{7});
  EXPECT_TRUE(attach(board, 0).base().empty());
}

TEST(CounterBoard, what_does_not_fit_is_not_written) {
  CounterBoard board = *CounterBoard::create(1, 2);
  board.write(std::vector<uint64_t>{1, 2, 3});
  EXPECT_EQ(board.read(0), (std::vector<uint64_t>{1, 2}));
}

TEST(CounterBoard, a_slot_or_a_board_that_is_not_there_is_refused) {
  const CounterBoard board = *CounterBoard::create(2, 4);
  EXPECT_EQ(CounterBoard::attach(UniqueFd(::dup(board.fd())), 2).status().code(),
            StatusCode::kInvalidArgument);
  const shm::Mapping other = *shm::Mapping::create("other", 4096);
  EXPECT_EQ(CounterBoard::attach(UniqueFd(::dup(other.fd())), 0).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(CounterBoard, a_read_beside_a_write_is_of_one_write) {
  const CounterBoard board = *CounterBoard::create(1, 64);
  std::atomic<bool> is_over = false;
  std::thread writer([&] {
    CounterBoard own = attach(board, 0);
    for (uint64_t round = 1; !is_over; ++round) own.write(std::vector<uint64_t>(64, round));
  });
  const CounterBoard reader = attach(board, 0);
  uint64_t last = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::vector<uint64_t> words = reader.read(0);
    if (words.empty()) continue;
    EXPECT_EQ(words, std::vector<uint64_t>(words.size(), words.front()));
    EXPECT_GE(words.front(), last);
    last = words.front();
  }
  is_over = true;
  writer.join();
}

}  // namespace
}  // namespace trireme::api
