// Goal: the same events come out however the stream is cut.
#include "cli/bench/sse_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace trireme::bench {
namespace {

constexpr std::string_view kStream =
    "data: {\"a\":1}\n\n: a comment\nevent: x\nid: 7\ndata: first\ndata: second\n\n"
    "data:tight\r\n\r\n\n\ndata: [DONE]\n\n";
const std::vector<std::string> kEvents = {"{\"a\":1}", "first\nsecond", "tight", "[DONE]"};

std::vector<std::string> events_of(std::string_view stream, std::size_t piece_bytes) {
  SseReader reader;
  std::vector<std::string> found;
  const auto take = [&found](std::string_view data) {
    found.emplace_back(data);
    return absl::OkStatus();
  };
  for (std::size_t at = 0; at < stream.size(); at += piece_bytes) {
    EXPECT_EQ(reader.feed(stream.substr(at, piece_bytes), take), absl::OkStatus());
  }
  return found;
}

TEST(SseReader, events_are_the_same_however_the_stream_is_cut) {
  for (std::size_t bytes = 1; bytes <= kStream.size(); ++bytes) {
    EXPECT_EQ(events_of(kStream, bytes), kEvents) << "in pieces of " << bytes;
  }
}

TEST(SseReader, event_without_its_empty_line_has_not_come) {
  EXPECT_TRUE(events_of("data: half\n", 100).empty());
}

TEST(SseReader, error_of_the_handler_ends_the_reading) {
  SseReader reader;
  int calls = 0;
  const Status status = reader.feed(kStream, [&calls](std::string_view) {
    ++calls;
    return error(StatusCode::kAborted, "enough");
  });
  EXPECT_EQ(status.code(), StatusCode::kAborted);
  EXPECT_EQ(calls, 1);
}

TEST(SseReader, endless_event_is_refused) {
  SseReader reader;
  const std::string piece(1 << 20, 'x');
  Status status;
  for (int i = 0; i < 9 && status.ok(); ++i) {
    status = reader.feed(piece, [](std::string_view) { return absl::OkStatus(); });
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace trireme::bench
