// EngineClient: lives of engines, whose messages count, and what happens to the requests of the
// lost. Method: messages and views by hand, a transport that records.
#include "api_server/engine_client/engine_client.h"

#include <gtest/gtest.h>

#include <map>

namespace trireme::api {
namespace {

class RecordingTransport final : public EngineTransport {
 public:
  TransportResult send(std::string_view peer, const wire::Buffer& bytes) override {
    const auto result = results.find(std::string(peer));
    if (result != results.end()) return result->second;
    if (wire::peek_kind(bytes) == wire::MessageKind::kAddRequest) {
      const auto request = *wire::unpack<wire::AddRequest>(bytes);
      added.emplace_back(peer, request.key);
    } else if (wire::peek_kind(bytes) == wire::MessageKind::kUtilityCall) {
      calls.emplace_back(peer, *wire::unpack<wire::UtilityCall>(bytes));
    } else {
      const auto abort = *wire::unpack<wire::AbortRequests>(bytes);
      for (const RequestKey key : abort.keys) aborted.emplace_back(peer, key);
    }
    return TransportResult::kSent;
  }
  std::map<std::string, TransportResult> results;
  std::vector<std::pair<std::string, RequestKey>> added;
  std::vector<std::pair<std::string, RequestKey>> aborted;
  std::vector<std::pair<std::string, wire::UtilityCall>> calls;
};

class RecordingSink final : public OutputSink {
 public:
  void take(uint32_t, wire::EngineOutput& output) override { tokens += output.token_ids.size(); }
  void fail(uint32_t, const Status& status) override { failures.push_back(status.code()); }
  std::size_t tokens = 0;
  std::vector<StatusCode> failures;
};

struct Fixture {
  RecordingTransport transport;
  EngineClient client{{.engine_count = 2, .front_ends = 1}, transport};
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();

  template <typename Message>
  void receive(std::string_view peer, const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    client.on_message(peer, buffer);
  }
  void ready(std::string_view peer, uint32_t rank, uint64_t incarnation, uint64_t connection = 1,
             uint64_t outputs_sent = 0) {
    receive(peer, wire::EngineReady{.engine = EngineId{rank},
                                    .incarnation = Incarnation{incarnation},
                                    .block_count = 100,
                                    .block_tokens = 16,
                                    .model_tokens_max = 512,
                                    .sequences_max = 64,
                                    .connection = connection,
                                    .outputs_sent = outputs_sent});
  }
  void outputs(std::string_view peer, uint32_t rank, uint64_t incarnation, uint64_t sequence,
               std::vector<wire::EngineOutput> outputs = {}, uint64_t connection = 1) {
    receive(peer, wire::EngineOutputs{.engine = EngineId{rank},
                                      .incarnation = Incarnation{incarnation},
                                      .requests_received = 1,
                                      .outputs = std::move(outputs),
                                      .connection = connection,
                                      .sequence = sequence});
  }
  void view(uint64_t epoch, uint32_t rank, uint64_t incarnation, wire::MemberState state) {
    client.on_view({.epoch = Epoch{epoch},
                    .members = {{.role = wire::Role::kEngine,
                                 .index = rank,
                                 .incarnation = Incarnation{incarnation},
                                 .state = state}}});
  }
  Status submit(std::optional<uint32_t> rank = std::nullopt, std::size_t count = 1) {
    std::vector<wire::AddRequest> requests(count);
    for (wire::AddRequest& request : requests) request.prompt_token_ids = {1, 2};
    return client.submit(std::move(requests), sink, rank, keys);
  }
  std::vector<RequestKey> keys;
};

TEST(EngineClient, an_engine_serves_from_its_first_message_on_without_a_view) {
  Fixture f;
  EXPECT_EQ(f.submit().code(), StatusCode::kUnavailable);
  f.ready("a", 0, 7);
  EXPECT_TRUE(f.submit().ok());
  EXPECT_EQ(f.client.model_tokens_max(), 512u);
}

TEST(EngineClient, a_life_the_view_does_not_name_waits_until_it_does) {
  Fixture f;
  f.view(1, 0, 7, wire::MemberState::kReady);
  f.ready("b", 0, 8);
  EXPECT_EQ(f.client.ready_count(), 0u);
  f.view(2, 0, 8, wire::MemberState::kReady);
  EXPECT_EQ(f.client.ready_count(), 1u);
}

TEST(EngineClient, the_requests_of_a_lost_engine_fail_once_and_it_is_not_heard) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.view(1, 0, 7, wire::MemberState::kLost);
  EXPECT_EQ(f.sink->failures, std::vector{StatusCode::kUnavailable});
  EXPECT_EQ(f.client.requests_open(), 0u);
  EXPECT_EQ(f.client.admission().requests(), 0u);
  EXPECT_EQ(f.client.admission().prompt_tokens(), 0u);
  f.ready("a", 0, 7);
  f.outputs("a", 0, 7, 1);
  EXPECT_EQ(f.client.ready_count(), 0u);
  EXPECT_EQ(f.client.counters().stale, 1u);
}

TEST(EngineClient, a_rank_that_was_silent_for_a_lease_is_taken_back_and_drops_what_it_had) {
  Fixture f;
  f.view(1, 0, 7, wire::MemberState::kReady);
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.view(2, 0, 7, wire::MemberState::kLost);
  f.ready("a", 0, 7);  // It woke up: first the front ends hear it, then the coordinator.
  f.outputs("a", 0, 7, 1, {{.key = f.keys[0], .token_ids = {5}}});
  EXPECT_EQ(f.client.ready_count(), 0u);
  f.view(3, 0, 7, wire::MemberState::kStarting);
  EXPECT_EQ(f.client.ready_count(), 1u);
  f.client.flush();
  EXPECT_EQ(f.transport.aborted.size(), 1u);
  ASSERT_TRUE(f.submit().ok());
  f.outputs("a", 0, 7, 2,
            {{.key = f.keys[1], .token_ids = {5}, .finish_reason = wire::FinishReason::kStop}});
  EXPECT_EQ(f.sink->tokens, 1u);
  EXPECT_EQ(f.sink->failures.size(), 1u);
}

TEST(EngineClient, a_life_that_was_replaced_does_not_come_back_when_its_successor_is_lost) {
  Fixture f;
  f.view(1, 0, 7, wire::MemberState::kReady);
  f.ready("a", 0, 7);
  f.view(2, 0, 7, wire::MemberState::kLost);
  f.ready("a", 0, 7);
  f.view(3, 0, 8, wire::MemberState::kReady);
  f.ready("b", 0, 8);
  f.view(4, 0, 8, wire::MemberState::kLost);
  f.ready("a", 0, 7);
  EXPECT_EQ(f.client.ready_count(), 0u);
}

TEST(EngineClient, a_new_connection_fails_what_the_old_one_had) {
  Fixture f;
  f.ready("a", 0, 7, 1);
  ASSERT_TRUE(f.submit().ok());
  f.ready("a", 0, 7, 1);
  EXPECT_TRUE(f.sink->failures.empty());
  f.ready("a2", 0, 7, 2);
  EXPECT_EQ(f.sink->failures.size(), 1u);
  f.client.flush();
  EXPECT_TRUE(f.transport.aborted.empty());  // The engine gave it up by itself.
  f.outputs("a", 0, 7, 1);
  EXPECT_EQ(f.client.counters().stale, 1u);
  ASSERT_TRUE(f.submit().ok());
  EXPECT_EQ(f.transport.added.back().first, "a2");
}

TEST(EngineClient, a_lost_last_output_is_noticed_with_the_next_beat) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.ready("a", 0, 7, 1, /*outputs_sent=*/1);
  EXPECT_EQ(f.sink->failures, std::vector{StatusCode::kUnavailable});
}

TEST(EngineClient, outputs_before_an_engine_is_taken_in_are_no_gap) {
  Fixture f;
  f.view(1, 0, 7, wire::MemberState::kLost);
  f.ready("a", 0, 7);
  f.outputs("a", 0, 7, 1);
  f.outputs("a", 0, 7, 2);
  f.view(2, 0, 7, wire::MemberState::kReady);
  ASSERT_TRUE(f.submit().ok());
  f.outputs("a", 0, 7, 3, {{.key = f.keys[0], .token_ids = {5}}});
  EXPECT_EQ(f.sink->tokens, 1u);
  EXPECT_TRUE(f.sink->failures.empty());
}

TEST(EngineClient, a_gap_in_the_outputs_fails_the_requests_rather_than_lose_a_token) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.outputs("a", 0, 7, 1, {{.key = f.keys[0], .token_ids = {5}}});
  f.outputs("a", 0, 7, 3,
            {{.key = f.keys[0], .token_ids = {7}, .finish_reason = wire::FinishReason::kStop}});
  EXPECT_EQ(f.sink->tokens, 1u);
  EXPECT_EQ(f.sink->failures, std::vector{StatusCode::kUnavailable});
  f.ready("a", 0, 7);
  EXPECT_EQ(f.client.ready_count(), 0u);
  f.ready("a2", 0, 7, 2);
  EXPECT_EQ(f.client.ready_count(), 1u);
}

TEST(EngineClient, a_new_life_ends_the_old_one) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.ready("b", 0, 8);
  EXPECT_EQ(f.sink->failures.size(), 1u);
  ASSERT_TRUE(f.submit().ok());
  EXPECT_EQ(f.transport.added.back().first, "b");
}

TEST(EngineClient, a_draining_engine_gets_nothing_new_and_finishes_what_it_has) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit().ok());
  f.view(1, 0, 7, wire::MemberState::kDraining);
  EXPECT_EQ(f.submit().code(), StatusCode::kUnavailable);
  f.outputs("a", 0, 7, 1,
            {{.key = f.keys[0], .token_ids = {5}, .finish_reason = wire::FinishReason::kStop}});
  EXPECT_EQ(f.sink->tokens, 1u);
  EXPECT_TRUE(f.sink->failures.empty());
}

TEST(EngineClient, a_restarted_coordinator_that_lists_nobody_yet_loses_nobody) {
  Fixture f;
  f.ready("a", 0, 7);
  f.view(1, 0, 7, wire::MemberState::kReady);
  f.client.on_view({.epoch = Epoch{2}, .coordinator = Incarnation{99}});
  EXPECT_EQ(f.client.ready_count(), 1u);
  f.client.on_view({.epoch = Epoch{3}, .coordinator = Incarnation{0}});
  EXPECT_EQ(f.client.ready_count(), 0u);
}

TEST(EngineClient, a_broken_connection_fails_what_it_had_and_may_come_back) {
  Fixture f;
  f.ready("a", 0, 7);
  f.ready("b", 1, 9);
  ASSERT_TRUE(f.submit(0).ok());
  f.transport.results["a"] = TransportResult::kGone;
  ASSERT_TRUE(f.submit().ok());
  ASSERT_TRUE(f.submit().ok());
  EXPECT_EQ(f.transport.added.back().first, "b");
  f.client.flush();
  EXPECT_EQ(f.sink->failures.size(), 1u);
  f.transport.results.clear();
  f.ready("a", 0, 7);
  EXPECT_EQ(f.client.ready_count(), 1u);
  f.ready("a2", 0, 7, 2);
  EXPECT_EQ(f.client.ready_count(), 2u);
}

TEST(EngineClient, an_idle_engine_that_is_gone_is_noticed_when_connections_are_checked) {
  Fixture f;
  f.ready("a", 0, 7);
  f.ready("b", 1, 9);
  ASSERT_TRUE(f.submit(0).ok());
  f.transport.results["a"] = TransportResult::kGone;
  f.client.check_connections();
  EXPECT_EQ(f.client.ready_count(), 1u);
  EXPECT_EQ(f.sink->failures.size(), 1u);
  f.transport.results["b"] = TransportResult::kFull;
  f.client.check_connections();
  EXPECT_TRUE(f.client.is_ready());
}

TEST(EngineClient, a_full_queue_passes_the_request_on_and_all_full_is_429_with_nothing_left) {
  Fixture f;
  f.ready("a", 0, 7);
  f.ready("b", 1, 9);
  f.transport.results["a"] = TransportResult::kFull;
  ASSERT_TRUE(f.submit().ok());
  ASSERT_TRUE(f.submit().ok());
  EXPECT_EQ(f.transport.added.size(), 2u);
  f.transport.results["b"] = TransportResult::kFull;
  EXPECT_EQ(f.submit(std::nullopt, 3).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(f.client.admission().requests(), 2u);
  EXPECT_EQ(f.client.admission().prompt_tokens(), 4u);
  EXPECT_EQ(f.client.requests_open(), 2u);
}

TEST(EngineClient, aborts_are_gathered_into_one_message_an_engine) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_TRUE(f.submit(std::nullopt, 3).ok());
  f.client.abort(f.keys);
  EXPECT_TRUE(f.transport.aborted.empty());
  f.client.flush();
  EXPECT_EQ(f.transport.aborted.size(), 3u);
  EXPECT_EQ(f.client.requests_open(), 0u);
}

TEST(EngineClient, a_forced_end_fails_every_request_once_and_aborts_it) {
  Fixture f;
  f.ready("a", 0, 7);
  f.ready("b", 1, 8);
  ASSERT_TRUE(f.submit(0, 2).ok());
  ASSERT_TRUE(f.submit(1, 1).ok());
  f.client.fail_all(error(StatusCode::kUnavailable, "stopped"));
  EXPECT_EQ(f.sink->failures, std::vector(3, StatusCode::kUnavailable));
  EXPECT_EQ(f.client.requests_open(), 0u);
  EXPECT_EQ(f.client.admission().requests(), 0u);
  f.client.flush();
  EXPECT_EQ(f.transport.aborted.size(), 3u);
}

TEST(EngineClient, an_engine_that_comes_is_told_first_whether_to_serve) {
  Fixture f;
  f.ready("a", 0, 7);
  ASSERT_EQ(f.transport.calls.size(), 1u);
  EXPECT_EQ(f.transport.calls[0].second.method, wire::UtilityMethod::kResume);
  f.client.calls().pause(PauseMode::kKeep, 0, Instant::max(), [](const auto&) {});
  f.transport.calls.clear();
  f.ready("b", 1, 8);     // Another rank,
  f.ready("a", 0, 7, 2);  // one whose connection had broken,
  f.ready("c", 0, 9, 1);  // and its next life.
  for (const char* const peer : {"b", "a", "c"}) {
    const auto told = std::ranges::find(f.transport.calls, peer,
                                        &std::pair<std::string, wire::UtilityCall>::first);
    ASSERT_NE(told, f.transport.calls.end()) << peer;
    EXPECT_EQ(told->second.method, wire::UtilityMethod::kPause);
    EXPECT_EQ(told->second.argument, "keep");
  }
}

TEST(EngineClient, a_call_is_answered_by_the_engine_that_was_asked_and_by_nobody_else) {
  Fixture f;
  f.ready("a", 0, 7);
  f.ready("b", 1, 8);
  int answers = 0;
  f.client.calls().pause(PauseMode::kAbort, 0, Instant::max(), [&](const auto&) { ++answers; });
  const auto reply = [&](const char* peer, uint32_t rank, std::size_t call) {
    f.receive(peer, wire::UtilityReply{.call_id = f.transport.calls[call].second.call_id,
                                       .engine = EngineId{rank},
                                       .ok = true,
                                       .result = "true"});
  };
  ASSERT_EQ(f.transport.calls.size(), 4u);  // The first two: to serve.
  reply("b", 0, 2);
  reply("x", 9, 2);
  EXPECT_EQ(f.client.counters().stale, 2u);
  reply("a", 0, 3);  // That was asked of the other one.
  reply("a", 0, 2);
  EXPECT_EQ(answers, 0);
  f.view(1, 1, 8, wire::MemberState::kLost);
  EXPECT_EQ(answers, 1);
}

TEST(EngineClient, undecodable_bytes_are_counted_and_dropped) {
  Fixture f;
  for (const std::size_t size : {0u, 1u, 3u, 100u}) {
    const wire::Buffer garbage(size, std::byte{0xC1});
    f.client.on_message("x", garbage);
  }
  EXPECT_EQ(f.client.counters().undecodable, 4u);
}

}  // namespace
}  // namespace trireme::api
