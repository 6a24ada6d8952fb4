// Goal: nothing is lost or torn, nobody waits for the dead, every bound has its error.
// Method: threads for the order of things; real processes that are killed in mid-stream (see
// main()).
#include "common/shm/shm_queue.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "common/process/child_process.h"

namespace trireme::shm {
namespace {

using std::chrono::milliseconds;

constexpr Duration kPatience = std::chrono::seconds(20);

Deadline patience() { return Deadline::after(kPatience); }
Deadline at_once() { return Deadline(Instant{}); }

// A record that says its number and can be checked; sizes around and beyond a slot.
std::vector<std::byte> make_record(uint64_t number) {
  std::vector<std::byte> record(sizeof(number) + number % 700);
  std::memcpy(record.data(), &number, sizeof(number));
  for (std::size_t i = sizeof(number); i < record.size(); ++i) {
    record[i] = static_cast<std::byte>(number + i);
  }
  return record;
}

bool is_record(std::span<const std::byte> bytes, uint64_t number) {
  const auto expected = make_record(number);
  return std::equal(bytes.begin(), bytes.end(), expected.begin(), expected.end());
}

constexpr QueueShape kSmall{.ring_count = 1,
                            .reader_count = 2,
                            .slot_count = 4,
                            .slot_bytes = 128,
                            .record_bytes_max = 1 << 20};
constexpr QueueShape kResponses{.ring_count = 3,
                                .reader_count = 1,
                                .slot_count = 4,
                                .slot_bytes = 128,
                                .record_bytes_max = 1 << 20};

QueueMemory make_memory(const QueueShape& shape) {
  auto memory = QueueMemory::create("shm_queue_test", shape);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return *std::move(memory);
}

TEST(ShmQueue, every_reader_gets_every_record_whole_and_in_order) {
  constexpr uint64_t kRecords = 5'000;
  const QueueMemory memory = make_memory(kSmall);
  std::vector<std::jthread> readers;
  for (uint32_t index = 0; index < kSmall.reader_count; ++index) {
    readers.emplace_back([&, index] {
      ShmReceiver receiver(memory, index);
      for (uint64_t number = 0; number < kRecords; ++number) {
        const auto record = receiver.receive(patience());
        ASSERT_TRUE(record.ok()) << record.status();
        ASSERT_TRUE(is_record(*record, number)) << number;
        receiver.release();
      }
    });
  }
  ShmSender sender(memory, 0);
  for (uint64_t number = 0; number < kRecords; ++number) {
    ASSERT_TRUE(sender.send(make_record(number), patience()).ok());
  }
}

TEST(ShmQueue, record_larger_than_the_whole_ring_arrives) {
  const QueueMemory memory = make_memory(kSmall);
  const std::vector<std::byte> large(kSmall.record_bytes_max, std::byte{9});
  const auto read_one = [&](uint32_t index) {
    ShmReceiver receiver(memory, index);
    const auto record = receiver.receive(patience());
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_TRUE(std::equal(record->begin(), record->end(), large.begin(), large.end()));
    receiver.release();
  };
  std::jthread first([&] { read_one(0); }), second([&] { read_one(1); });
  EXPECT_TRUE(ShmSender(memory, 0).send(large, patience()).ok());
}

TEST(ShmQueue, record_over_the_limit_is_refused_with_both_numbers) {
  const QueueMemory memory = make_memory(kSmall);
  const std::vector<std::byte> large(kSmall.record_bytes_max + 1);
  EXPECT_EQ(ShmSender(memory, 0).send(large, patience()),
            Status(StatusCode::kInvalidArgument,
                   "a record of 1048577 bytes; the queue takes up to 1048576"));
}

TEST(ShmQueue, full_queue_names_the_reader_that_is_behind) {
  const QueueMemory memory = make_memory(kSmall);
  ShmSender sender(memory, 0);
  ShmReceiver fast(memory, 0);
  Status full = absl::OkStatus();
  for (int i = 0; i < 5 && full.ok(); ++i) {
    full = sender.send({}, Deadline::after(milliseconds(1)));
    if (fast.receive(at_once()).ok()) fast.release();
  }
  EXPECT_EQ(full, Status(StatusCode::kDeadlineExceeded,
                         "reader 1 of the shared queue is 4 chunks behind and takes no more"));
}

TEST(ShmQueue, record_given_up_halfway_is_never_seen) {
  const QueueMemory memory = make_memory({.slot_count = 4, .slot_bytes = 128});
  ShmSender sender(memory, 0);
  ShmReceiver receiver(memory, 0);
  const std::vector<std::byte> large(10'000);
  EXPECT_EQ(sender.send(large, Deadline::after(milliseconds(1))).code(),
            StatusCode::kDeadlineExceeded);
  EXPECT_EQ(receiver.receive(at_once()).status().code(), StatusCode::kDeadlineExceeded);
  for (const uint64_t number : {400, 3}) {
    ASSERT_TRUE(sender.send(make_record(number), patience()).ok());
    const auto record = receiver.receive(patience());
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_TRUE(is_record(*record, number));
    receiver.release();
  }
}

TEST(ShmQueue, wait_ends_at_its_deadline) {
  const QueueMemory memory = make_memory(kSmall);
  const Instant begin = now();
  const auto record = ShmReceiver(memory, 0).receive(Deadline::after(milliseconds(20)));
  EXPECT_EQ(record.status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_GE(now() - begin, milliseconds(20));
}

TEST(ShmQueue, close_ends_waits_after_the_last_record) {
  const QueueMemory memory = make_memory(kSmall);
  ShmSender sender(memory, 0);
  ASSERT_TRUE(sender.send(make_record(1), patience()).ok());
  ShmReceiver receiver(memory, 0);
  const std::jthread closer([&] { memory.close(); });
  ASSERT_TRUE(receiver.receive(Deadline::never()).ok());
  receiver.release();
  EXPECT_EQ(receiver.receive(Deadline::never()).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(sender.send({}, Deadline::never()).code(), StatusCode::kUnavailable);
}

TEST(ShmQueue, collector_gets_the_records_of_all_rings) {
  constexpr uint64_t kRecords = 2'000;
  const QueueMemory memory = make_memory(kResponses);
  std::vector<std::jthread> writers;
  for (uint32_t ring = 0; ring < kResponses.ring_count; ++ring) {
    writers.emplace_back([&, ring] {
      ShmSender sender(memory, ring);
      for (uint64_t number = 0; number < kRecords; ++number) {
        ASSERT_TRUE(sender.send(make_record(number), patience()).ok());
      }
    });
  }
  ShmCollector collector(memory);
  std::vector<uint64_t> next(kResponses.ring_count);
  for (uint64_t i = 0; i < kRecords * kResponses.ring_count; ++i) {
    const auto received = collector.receive(patience());
    ASSERT_TRUE(received.ok()) << received.status();
    ASSERT_TRUE(is_record(received->record, next[received->ring]++));
    collector.release();
  }
  EXPECT_EQ(collector.receive(at_once()).status().code(), StatusCode::kDeadlineExceeded);
}

TEST(ShmQueue, what_went_through_it_and_who_waited_is_counted) {
  const QueueMemory memory = make_memory(kSmall);
  ShmSender sender(memory, 0);
  ShmReceiver fast(memory, 0), slow(memory, 1);
  ASSERT_TRUE(sender.send(std::vector<std::byte>(100), at_once()).ok());
  ASSERT_TRUE(sender.send(std::vector<std::byte>(300), at_once()).ok());  // Three chunks.
  EXPECT_FALSE(sender.send(std::vector<std::byte>(1), Deadline::after(milliseconds(50))).ok());
  ASSERT_TRUE(fast.receive(at_once()).ok());
  fast.release();
  const QueueStats stats = memory.stats();
  EXPECT_EQ(stats.records, 2u);
  EXPECT_EQ(stats.bytes, 400u);
  EXPECT_EQ(stats.oversize_records, 1u);
  EXPECT_EQ(stats.writer_waits, 1u);
  EXPECT_GE(stats.writer_parks, 1u);
  EXPECT_EQ(stats.reader_parks, 0u);
  EXPECT_EQ(stats.chunks_waiting, 4u);
}

TEST(ShmQueue, sleep_of_a_collector_is_counted_while_it_sleeps) {
  const QueueMemory memory = make_memory(kResponses);
  std::thread reader([&] {
    ShmCollector collector(memory);
    EXPECT_TRUE(collector.receive(patience()).ok());
  });
  const Deadline deadline = patience();
  while (memory.stats().reader_parks == 0 && !deadline.has_passed()) std::this_thread::yield();
  EXPECT_GE(memory.stats().reader_parks, 1u);
  ShmSender sender(memory, 2);
  EXPECT_TRUE(sender.send(make_record(1), at_once()).ok());
  reader.join();
}

TEST(ShmQueue, each_ring_has_a_note_of_its_own) {
  const QueueMemory memory = make_memory(kResponses);
  auto other = QueueMemory::attach(UniqueFd(::dup(memory.fd())));
  ASSERT_TRUE(other.ok()) << other.status();
  for (uint32_t ring = 0; ring < 3; ++ring) {
    std::ranges::fill(memory.note(ring), static_cast<std::byte>(ring + 1));
  }
  for (uint32_t ring = 0; ring < 3; ++ring) {
    EXPECT_EQ(other->note(ring).size(), kLine);
    EXPECT_EQ(other->note(ring).front(), static_cast<std::byte>(ring + 1));
    EXPECT_EQ(other->note(ring).back(), static_cast<std::byte>(ring + 1));
  }
  EXPECT_EQ(memory.stats().records, 0u);
}

TEST(ShmQueue, attach_refuses_memory_that_is_no_queue) {
  const auto other = Mapping::create("other", 1 << 16);
  EXPECT_FALSE(QueueMemory::attach(UniqueFd(::dup(other->fd()))).ok());
  const QueueMemory memory = make_memory(kSmall);
  EXPECT_TRUE(QueueMemory::attach(UniqueFd(::dup(memory.fd()))).ok());
  const auto raw = Mapping::attach(UniqueFd(::dup(memory.fd())));
  raw->bytes()[offsetof(QueueHeader, shape) + offsetof(QueueShape, slot_count)] = std::byte{8};
  EXPECT_EQ(QueueMemory::attach(UniqueFd(::dup(memory.fd()))).status().code(),
            StatusCode::kFailedPrecondition);
}

TEST(ShmQueue, shape_out_of_bounds_is_refused) {
  EXPECT_FALSE(QueueMemory::create("bad", {.slot_count = 3}).ok());
  EXPECT_FALSE(QueueMemory::create("bad", {.reader_count = kWaitersMax + 1}).ok());
}

// This process sends through `requests` and collects from `responses`; a child plays a role.
class ShmQueueProcess : public testing::Test {
 protected:
  process::ChildProcess start(const std::string& role) {
    auto child = process::ChildProcess::spawn(
        {.argv = {"/proc/self/exe", role, std::to_string(requests_.fd()),
                  std::to_string(responses_.fd())},
         .inherited_fds = {requests_.fd(), responses_.fd()}});
    EXPECT_TRUE(child.ok()) << child.status();
    collector_.watch_writer(0, child->pidfd());
    sender_.watch_reader(0, child->pidfd());
    return *std::move(child);
  }
  void expect_response(uint64_t number) {
    const auto received = collector_.receive(patience());
    ASSERT_TRUE(received.ok()) << received.status();
    ASSERT_TRUE(is_record(received->record, number)) << number;
    collector_.release();
  }

  const QueueMemory requests_ = make_memory({.slot_count = 4, .slot_bytes = 128});
  const QueueMemory responses_ = make_memory({.slot_count = 4, .slot_bytes = 128});
  ShmSender sender_{requests_, 0};
  ShmCollector collector_{responses_};
};

TEST_F(ShmQueueProcess, records_cross_to_another_process_and_back) {
  const auto child = start("echo");
  for (uint64_t number = 0; number < 2'000; ++number) {
    ASSERT_TRUE(sender_.send(make_record(number), patience()).ok());
    expect_response(number);
  }
}

TEST_F(ShmQueueProcess, reader_killed_in_mid_stream_does_not_hold_up_the_writer_for_ever) {
  const auto child = start("echo");
  for (uint64_t number = 0; number < 100; ++number) {
    ASSERT_TRUE(sender_.send(make_record(number), patience()).ok());
    expect_response(number);
  }
  child.send_signal(SIGKILL);
  Status status = absl::OkStatus();
  for (uint64_t number = 0; status.ok() && number < 100; ++number) {
    status = sender_.send(make_record(number), Deadline::never());
  }
  EXPECT_EQ(status, Status(StatusCode::kUnavailable, "reader 0 of the shared queue has died"));
}

TEST_F(ShmQueueProcess, writer_killed_in_mid_stream_leaves_whole_records_and_is_noticed) {
  const auto child = start("flood");
  uint64_t number = 0;
  for (; number < 500; ++number) expect_response(number);
  child.send_signal(SIGKILL);
  Status end = absl::OkStatus();
  for (uint64_t after = 0; end.ok() && after < 100; ++after, ++number) {
    const auto received = collector_.receive(Deadline::never());
    end = received.status();
    if (!received.ok()) break;
    ASSERT_TRUE(is_record(received->record, number)) << number;
    collector_.release();
  }
  EXPECT_EQ(end,
            Status(StatusCode::kUnavailable, "the writer of ring 0 of the shared queue has died"));
}

TEST_F(ShmQueueProcess, stopped_reader_is_named_at_the_deadline) {
  const auto child = start("echo");
  ASSERT_TRUE(sender_.send(make_record(0), patience()).ok());
  expect_response(0);
  child.send_signal(SIGSTOP);
  Status status = absl::OkStatus();
  for (int i = 0; i < 100 && status.ok(); ++i) {
    status = sender_.send({}, Deadline::after(milliseconds(50)));
  }
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("reader 0"), std::string_view::npos);
}

StatusOr<QueueMemory> attach_to(const char* text) {
  int fd = -1;
  std::from_chars(text, text + std::strlen(text), fd);
  return QueueMemory::attach(UniqueFd(fd));
}

Status run_role(std::string_view role, const char* requests_fd, const char* responses_fd) {
  TRIREME_ASSIGN_OR_RETURN(const QueueMemory requests, attach_to(requests_fd));
  TRIREME_ASSIGN_OR_RETURN(const QueueMemory responses, attach_to(responses_fd));
  ShmReceiver receiver(requests, 0);
  ShmSender sender(responses, 0);
  for (uint64_t number = 0;; ++number) {
    if (role == "flood") {
      TRIREME_RETURN_IF_ERROR(sender.send(make_record(number), Deadline::never()));
      continue;
    }
    TRIREME_ASSIGN_OR_RETURN(const auto record, receiver.receive(Deadline::never()));
    TRIREME_RETURN_IF_ERROR(sender.send(record, Deadline::never()));
    receiver.release();
  }
}

}  // namespace
}  // namespace trireme::shm

int main(int argc, char** argv) {
  if (argc == 4) return trireme::shm::run_role(argv[1], argv[2], argv[3]).ok() ? 0 : 1;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
