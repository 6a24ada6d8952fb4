// RequestParser: the result depends on the bytes alone, never on how they were cut; what is over a
// limit or malformed is refused. Method: every split of each example is fed and compared.
#include "api_server/http/request_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace trireme::api {
namespace {

using Progress = RequestParser::Progress;

constexpr std::string_view kTwoRequests =
    "POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n"
    "X-data-parallel-rank: 1\r\nAuthorization: Bearer k\r\nContent-Length: "
    "11\r\n\r\n{\"a\":\"b\\n\"}"
    "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
constexpr std::string_view kChunked =
    "POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\n6; x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n";

// Feeds the pieces as a connection would: what was not consumed stays in front of the next piece.
struct Fed {
  std::vector<HttpRequest> requests;
  uint16_t failure = 0;
  friend bool operator==(const Fed&, const Fed&) = default;
};

Fed feed_all(const std::vector<std::string_view>& pieces, const HttpLimits& limits = {}) {
  RequestParser parser(limits);
  Fed fed;
  std::string buffer;
  for (const std::string_view piece : pieces) {
    buffer += piece;
    for (;;) {
      const std::size_t consumed = parser.feed(buffer);
      buffer.erase(0, consumed);
      if (parser.progress() == Progress::kComplete) {
        fed.requests.push_back(parser.take());
        continue;
      }
      if (parser.progress() == Progress::kFailed) {
        fed.failure = parser.failure().status;
        return fed;
      }
      if (consumed == 0 || buffer.empty()) break;
    }
  }
  return fed;
}

TEST(RequestParser, pipelined_requests_are_the_same_for_every_split) {
  const Fed whole = feed_all({kTwoRequests});
  ASSERT_EQ(whole.requests.size(), 2u);
  EXPECT_EQ(whole.requests[0].path, "/v1/completions");
  EXPECT_EQ(whole.requests[0].query, "x=1");
  EXPECT_EQ(whole.requests[0].body, "{\"a\":\"b\\n\"}");
  EXPECT_EQ(whole.requests[0].request_id, "r1");
  EXPECT_EQ(whole.requests[0].data_parallel_rank, "1");
  EXPECT_EQ(whole.requests[0].authorization, "Bearer k");
  EXPECT_TRUE(whole.requests[0].keep_alive);
  EXPECT_EQ(whole.requests[1].method, Method::kGet);
  EXPECT_FALSE(whole.requests[1].keep_alive);
  for (std::size_t i = 0; i <= kTwoRequests.size(); ++i) {
    for (std::size_t j = i; j <= kTwoRequests.size(); j += 7) {
      EXPECT_EQ(feed_all({kTwoRequests.substr(0, i), kTwoRequests.substr(i, j - i),
                          kTwoRequests.substr(j)}),
                whole)
          << "split at " << i << " and " << j;
    }
  }
}

TEST(RequestParser, chunked_bodies_are_the_same_for_every_split) {
  const Fed whole = feed_all({kChunked});
  ASSERT_EQ(whole.requests.size(), 1u);
  EXPECT_EQ(whole.requests[0].body, "hello world");
  for (std::size_t i = 0; i <= kChunked.size(); ++i) {
    EXPECT_EQ(feed_all({kChunked.substr(0, i), kChunked.substr(i)}), whole) << "split at " << i;
  }
}

TEST(RequestParser, fields_behind_a_chunked_body_are_no_header_for_any_split) {
  constexpr std::string_view kTrailers =
      "POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2\r\nhi\r\n0\r\nHost: b\r\nAuthorization: Bearer k\r\nX-data-parallel-rank: 1\r\n\r\n";
  const Fed whole = feed_all({kTrailers});
  ASSERT_EQ(whole.requests.size(), 1u) << whole.failure;
  EXPECT_EQ(whole.requests[0].body, "hi");
  EXPECT_EQ(whole.requests[0].authorization, "");
  EXPECT_FALSE(whole.requests[0].data_parallel_rank);
  for (std::size_t cut = 1; cut < kTrailers.size(); ++cut) {
    ASSERT_EQ(feed_all({kTrailers.substr(0, cut), kTrailers.substr(cut)}), whole) << cut;
  }
}

TEST(RequestParser, chunked_body_without_chunks_may_come_byte_by_byte) {
  constexpr std::string_view kEmpty =
      "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  std::vector<std::string_view> pieces;
  for (std::size_t i = 0; i < kEmpty.size(); ++i) pieces.push_back(kEmpty.substr(i, 1));
  EXPECT_EQ(feed_all(pieces), feed_all({kEmpty}));
}

TEST(RequestParser, one_byte_at_a_time_is_the_same_too) {
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < kTwoRequests.size(); ++i) bytes.push_back(kTwoRequests.substr(i, 1));
  EXPECT_EQ(feed_all(bytes), feed_all({kTwoRequests}));
}

TEST(RequestParser, a_body_over_the_limit_is_413_before_it_is_read) {
  HttpLimits limits;
  limits.body_bytes_max = 10;
  EXPECT_EQ(feed_all({"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"}, limits).failure,
            413);
  EXPECT_EQ(
      feed_all(
          {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n"},
          limits)
          .failure,
      413);
}

TEST(RequestParser, a_header_over_the_limit_is_431_even_if_it_never_ends) {
  HttpLimits limits;
  limits.header_bytes_max = 100;
  EXPECT_EQ(feed_all({"GET / HTTP/1.1\r\nHost: a\r\nA: " + std::string(200, 'a')}, limits).failure,
            431);
}

TEST(RequestParser, garbage_is_400) {
  EXPECT_EQ(feed_all({"\x16\x03\x01\x02 TLS hello to a plain port\r\n\r\n"}).failure, 400);
  EXPECT_EQ(feed_all({"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabc"}).failure,
            400);
  EXPECT_EQ(feed_all({"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"}).failure, 400);
  EXPECT_EQ(
      feed_all(
          {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
           "0\r\n\r\n"})
          .failure,
      400);
}

TEST(RequestParser, expect_continue_is_told_once_and_only_before_the_body) {
  const HttpLimits limits;
  RequestParser parser(limits);
  parser.feed("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(parser.progress(), Progress::kBody);
  EXPECT_TRUE(parser.take_continue());
  EXPECT_FALSE(parser.take_continue());
  parser.feed("ab");
  EXPECT_EQ(parser.progress(), Progress::kComplete);
  EXPECT_EQ(parser.take().body, "ab");
}

TEST(RequestParser, a_target_in_absolute_form_is_its_path) {
  for (const char* const target : {"http://a/x?q=1", "HTTPS://a:80/x?q=1", "/x?q=1"}) {
    const Fed fed = feed_all({"GET ", target, " HTTP/1.1\r\nHost: a\r\n\r\n"});
    ASSERT_EQ(fed.requests.size(), 1u) << target;
    EXPECT_EQ(fed.requests[0].path, "/x");
    EXPECT_EQ(fed.requests[0].query, "q=1");
  }
  EXPECT_EQ(feed_all({"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"}).requests.at(0).path, "/");
}

TEST(RequestParser, empty_lines_before_a_request_are_nothing) {
  const Fed fed = feed_all({"\r\n\r", "\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\r\n"});
  ASSERT_EQ(fed.requests.size(), 1u);
  EXPECT_EQ(fed.failure, 0);
  constexpr std::string_view kRequest = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
  EXPECT_EQ(feed_all({kRequest, "", "\r\n", kRequest}).requests.size(), 2u);
}

TEST(RequestParser, one_host_is_needed_and_encodings_that_we_do_not_know_are_refused) {
  const auto failure = [](std::string_view version, std::string_view headers) {
    return feed_all({"POST /x ", version, "\r\n", headers, "\r\n"}).failure;
  };
  EXPECT_EQ(failure("HTTP/1.1", "Content-Length: 0\r\n"), 400);
  EXPECT_EQ(failure("HTTP/1.1", "Host: a\r\nHost: b\r\nContent-Length: 0\r\n"), 400);
  EXPECT_EQ(failure("HTTP/1.0", "Content-Length: 0\r\n"), 0);
  const std::string host = "Host: a\r\n";
  EXPECT_EQ(failure("HTTP/1.1", host + "Content-Length: 9\r\nContent-Encoding: gzip\r\n"), 415);
  EXPECT_EQ(failure("HTTP/1.1", host + "Content-Length: 0\r\nContent-Encoding: identity\r\n"), 0);
  EXPECT_EQ(failure("HTTP/1.1", host + "Transfer-Encoding: gzip, chunked\r\n"), 501);
}

}  // namespace
}  // namespace trireme::api
