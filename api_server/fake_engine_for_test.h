// FakeEngine: a DEALER on a thread that speaks an engine's protocol. Each request gets the letters
// a, b, c, ... one an output, until its max_tokens. Utility calls are answered from a flag: a pause
// does not touch the requests.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "api_server/server_for_test.h"
#include "common/random.h"
#include "common/zmq/dealer.h"
#include "common/zmq/poller.h"
#include "common/zmq/wakeup.h"
#include "proto/messages.h"

namespace trireme::api {

struct FakeEngineOptions {
  bool is_silent = false;           // Takes requests and says nothing until speak().
  bool sends_garbage = false;       // Instead of EngineReady.
  bool ignores_calls = false;       // Never answers one.
  bool lacks_memory = false;        // To wake up.
  uint32_t tokens_max = 1'000'000;  // Then it says no more, as a stuck engine would.
};

class FakeEngine {
 public:
  // Returns when the server has taken it in (unless it sends garbage).
  FakeEngine(ServerForTest& server, uint32_t rank, FakeEngineOptions options = {})
      : server_(server),
        rank_(rank),
        options_(options),
        incarnation_{entropy64()},
        dealer_(*zmq::Dealer::create(server.zmq(), "engine-" + std::to_string(incarnation_.value))),
        wakeup_(*zmq::Wakeup::create()),
        is_speaking_(!options.is_silent) {
    EXPECT_TRUE(dealer_.connect(server.endpoint()).ok());
    thread_ = std::thread([this] { run(); });
    if (!options.sends_garbage) {
      EXPECT_TRUE(server.wait_for_incarnation(rank, incarnation_));
    }
  }
  ~FakeEngine() {
    is_stopping_ = true;
    wakeup_.notify();
    thread_.join();
  }

  [[nodiscard]] int received() const { return received_; }
  [[nodiscard]] int aborted() const { return aborted_; }
  [[nodiscard]] int calls() const { return calls_; }
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  [[nodiscard]] bool is_asleep() const { return is_asleep_; }
  void speak() {
    is_speaking_ = true;
    wakeup_.notify();
  }
  [[nodiscard]] std::vector<uint64_t> seeds() const {
    std::vector<uint64_t> seeds;
    for (int i = 0; i < received_; ++i)
      seeds.push_back(log_[static_cast<std::size_t>(i)].sampling.seed);
    return seeds;
  }
  // As text.
  [[nodiscard]] std::string last_prompt() const {
    return *server_.tokenizer().decode(
        log_[static_cast<std::size_t>(received_ - 1)].prompt_token_ids, false);
  }

 private:
  void run() {
    auto poller = *zmq::Poller::create();
    EXPECT_TRUE(poller.add(dealer_, 1).ok() && poller.add_fd(wakeup_.fd(), 2).ok());
    greet();
    while (!is_stopping_) {
      zmq::Message message;
      while (dealer_.try_receive(message)) take(message);
      if (is_speaking_) step();
      const bool is_busy = is_speaking_ && !running_.empty();
      if (!poller.wait(is_busy ? Deadline(Instant{}) : Deadline::never()).empty()) wakeup_.drain();
    }
  }

  void greet() {
    if (options_.sends_garbage) {
      for (const char* bytes : {"", "garbage", "\x93\x10\x01\x01", "\xff\xff\xff\xff"}) {
        std::ignore = dealer_.try_send(zmq::bytes_of(bytes));
      }
      return;
    }
    send(wire::EngineReady{.engine = EngineId{rank_},
                           .incarnation = incarnation_,
                           .block_count = 1024,
                           .block_tokens = 16,
                           .model_tokens_max = kTestModelTokensMax,
                           .sequences_max = 64,
                           .batched_tokens_max = 2048});
  }

  template <typename Message>
  void send(const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    EXPECT_EQ(dealer_.try_send(zmq::Bytes(buffer)), zmq::SendResult::kSent);
  }

  void take(const zmq::Message& message) {
    const zmq::Bytes bytes = message.frame(0);
    if (wire::peek_kind(bytes) == wire::MessageKind::kAddRequest) {
      auto request = *wire::unpack<wire::AddRequest>(bytes);
      // Written before the count that a reader goes by.
      if (static_cast<std::size_t>(received_) < log_.size())
        log_[static_cast<std::size_t>(received_)] = request;
      running_.emplace(request.key, Running{.request = std::move(request)});
      ++received_;
    } else if (wire::peek_kind(bytes) == wire::MessageKind::kAbortRequests) {
      const auto abort = *wire::unpack<wire::AbortRequests>(bytes);
      for (const RequestKey key : abort.keys) {
        running_.erase(key);
        ++aborted_;
      }
    } else if (wire::peek_kind(bytes) == wire::MessageKind::kUtilityCall) {
      answer(*wire::unpack<wire::UtilityCall>(bytes));
      ++calls_;
    }
  }

  void answer(const wire::UtilityCall& call) {
    wire::UtilityReply reply{
        .call_id = call.call_id, .engine = EngineId{rank_}, .ok = true, .result = "true"};
    const bool sleeps = call.method == wire::UtilityMethod::kSleep;
    const bool resumes = call.method == wire::UtilityMethod::kResume;
    if (sleeps || resumes || call.method == wire::UtilityMethod::kPause) {
      is_paused_ = !resumes;
      is_asleep_ = sleeps;
    }
    if (call.method == wire::UtilityMethod::kCheckMemory && options_.lacks_memory) {
      reply.ok = false;
      reply.result = "no memory";
    }
    if (call.method == wire::UtilityMethod::kIsPaused && !is_paused_) reply.result = "false";
    if (call.method == wire::UtilityMethod::kResetPrefixCache && !running_.empty()) {
      reply.ok = false;
      reply.result = "requests hold KV blocks";
    }
    if (!options_.ignores_calls) send(reply);
  }

  // One token for each request.
  void step() {
    wire::EngineOutputs outputs{.engine = EngineId{rank_},
                                .incarnation = incarnation_,
                                .requests_received = static_cast<uint64_t>(received_.load())};
    for (auto it = running_.begin(); it != running_.end();) {
      auto& [key, running] = *it;
      if (running.sent >= options_.tokens_max) {
        ++it;
        continue;
      }
      const char letter = static_cast<char>('a' + running.sent % 26);
      const int32_t token = *server_.tokenizer().token_id(std::string(1, letter));
      wire::EngineOutput output{.key = key, .token_ids = {token}};
      if (running.request.sampling.logprobs >= 0) {
        output.logprobs.push_back({.token_ids = {token, token}, .logprobs = {-0.5F, -0.5F}});
      }
      const bool is_last = ++running.sent == running.request.sampling.output_tokens_max;
      if (is_last) output.finish_reason = wire::FinishReason::kLength;
      outputs.outputs.push_back(std::move(output));
      it = is_last ? running_.erase(it) : std::next(it);
    }
    if (outputs.outputs.empty()) return;
    outputs.sequence = ++sequence_;
    send(outputs);
  }

  struct Running {
    wire::AddRequest request;
    uint32_t sent = 0;
  };

  ServerForTest& server_;
  const uint32_t rank_;
  const FakeEngineOptions options_;
  const Incarnation incarnation_;
  zmq::Dealer dealer_;
  zmq::Wakeup wakeup_;
  std::map<RequestKey, Running> running_;
  uint64_t sequence_ = 0;
  std::array<wire::AddRequest, 64> log_;  // The first ones received.
  std::atomic<int> received_ = 0;
  std::atomic<int> aborted_ = 0;
  std::atomic<int> calls_ = 0;
  std::atomic<bool> is_paused_ = false;
  std::atomic<bool> is_asleep_ = false;
  std::atomic<bool> is_speaking_;
  std::atomic<bool> is_stopping_ = false;
  std::thread thread_;
};

}  // namespace trireme::api
