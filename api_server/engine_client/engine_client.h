// EngineClient: all engines as one. Sends requests to the engine that the balancer names, hands
// outputs to their sinks, and notices engines that come, drain and go.
//
// Sans-I/O: messages come in by on_*(), go out by EngineTransport. One thread.
//
// An engine is taken into service by its EngineReady (its first message to us), unless the view
// names another life of that rank or calls this one lost: then it waits until the view names it. It
// leaves service when the view calls it lost, draining or replaced, when another life of it is
// taken in, and when its connection broke: the transport says that nobody of its identity is
// connected, its EngineReady names another connection, or an output is missing. The requests of a
// lost engine end with kUnavailable. A life the view calls lost may come back (it was frozen, or
// cut off); messages of one that was replaced or has left are dropped and counted.
//
// Bounds: requests by Admission; ranks by kRanksMax.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "api_server/engine_client/admission.h"
#include "api_server/engine_client/engine_calls.h"
#include "api_server/engine_client/journal.h"
#include "api_server/engine_client/load_balancer.h"
#include "api_server/engine_client/step_tokens.h"
#include "api_server/engine_client/token_rate.h"
#include "common/status.h"
#include "proto/messages.h"

namespace trireme::api {

enum class TransportResult : uint8_t { kSent, kFull, kGone };

class EngineTransport {
 public:
  virtual ~EngineTransport() = default;
  // Never blocks.
  virtual TransportResult send(std::string_view peer, const wire::Buffer& bytes) = 0;
  // Peers that knocked and did not get through the handshake.
  [[nodiscard]] virtual uint64_t handshakes_failed_total() const { return 0; }
};

struct EngineClientOptions {
  uint32_t engine_count = 0;  // --data-parallel-size; 0: not known, pins are not range-checked.
  uint32_t served_first = 0;  // With hybrid and external balancing: the node's own ranks only.
  uint32_t served_count = UINT32_MAX;
  uint32_t front_ends = 1;           // That share the admission bounds.
  uint64_t queued_requests_max = 0;  // 0: default
  uint64_t queued_tokens_max = 0;
  uint32_t model_tokens_max = 0;  // From flags or config; engines may say less. 0: from engines.
};

class EngineClient {
 public:
  static constexpr uint32_t kRanksMax = 65'536;
  static constexpr Duration kRateInterval = std::chrono::seconds(1);

  enum class EngineState : uint8_t { kAbsent, kReady, kDraining, kLost };
  struct Engine {
    EngineState state = EngineState::kAbsent;
    Incarnation incarnation;
    std::string peer;
    wire::EngineReady ready;
    wire::ShmStats shm;              // As last told.
    uint64_t sequence = 0;           // Of the last outputs of this connection.
    bool is_broken = false;          // This connection is not used any more.
    uint64_t routed = 0;             // Over all lives.
    uint64_t lost = 0;               // Lives that ended while we used them.
    std::vector<RequestKey> aborts;  // To be sent with the next flush.
    // Times are those of the last tick() before it; Instant{}: before the first.
    Instant heard_at{};                // Its load.
    TokenRate rate;                    // Of tokens that it generated, once every kRateInterval.
    std::optional<wire::Stall> stall;  // As last told,
    Instant stalled_at{};              // and since when.
  };
  struct Counters {
    uint64_t undecodable = 0;
    uint64_t stale = 0;  // From a life that is over, or about a request that ended.
    uint64_t aborted = 0;
    uint64_t engine_full = 0;
    StepTokens step_tokens;  // Of the messages with outputs; of several front ends, each its part.
  };

  EngineClient(const EngineClientOptions& options, EngineTransport& transport);

  // Bytes of a peer: nothing in them can do more than be dropped and counted.
  void on_message(std::string_view peer, std::span<const std::byte> bytes);
  void on_view(const wire::View& view);
  void on_load_board(const wire::LoadBoard& board);

  // Sends one request for each element, or refuses all: kUnavailable (no engine),
  // kResourceExhausted (admission, or every queue full), kInvalidArgument (pinned rank). Keys are
  // drawn here, in order.
  [[nodiscard]] Status submit(std::vector<wire::AddRequest> requests,
                              const std::shared_ptr<OutputSink>& sink,
                              std::optional<uint32_t> pinned_rank, std::vector<RequestKey>& keys);
  // Unknown keys are ignored. No output follows. Takes effect with flush().
  void abort(std::span<const RequestKey> keys);
  // Every open request and utility call ends with `status`, now; the engines learn of it with
  // flush().
  void fail_all(const Status& status);
  // Sends what abort() gathered, one message an engine. Call it once per turn of the loop.
  void flush();
  // Several times a second: deadlines of utility calls, and what their engines had no room for.
  void tick(Instant now);
  // Some connection ended: asks the transport about every engine in service, by a message without
  // effect, and takes those out that are gone.
  void check_connections();

  // Nothing new: every submit() is refused from now on.
  void drain() { draining_ = true; }
  [[nodiscard]] bool is_draining() const { return draining_; }
  [[nodiscard]] bool is_ready() const { return ready_count_ > 0 && !draining_; }
  [[nodiscard]] uint32_t ready_count() const { return ready_count_; }
  // Of those that are served here.
  [[nodiscard]] bool has_all_engines() const {
    return ready_count_ >=
           std::min(options_.served_count, options_.engine_count - options_.served_first);
  }
  // No rank before it is served here, so there is nothing to tell of one.
  [[nodiscard]] uint32_t first_rank() const { return options_.served_first; }
  // 0: no engine yet, and no flag.
  [[nodiscard]] uint32_t model_tokens_max() const { return model_tokens_max_; }
  [[nodiscard]] std::size_t requests_open() const { return journal_.size(); }
  [[nodiscard]] const std::vector<Engine>& engines() const { return engines_; }
  [[nodiscard]] const LoadBalancer& balancer() const { return balancer_; }
  [[nodiscard]] const Admission& admission() const { return admission_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // Utility calls to all engines in service.
  [[nodiscard]] EngineCalls& calls() { return calls_; }
  [[nodiscard]] uint64_t handshakes_failed_total() const {
    return transport_.handshakes_failed_total();
  }
  // As of the last load board.
  [[nodiscard]] const wire::CoordinatorStats& coordinator_stats() const {
    return coordinator_stats_;
  }
  [[nodiscard]] Epoch epoch() const { return epoch_; }
  // The last one taken; epoch 0 and empty before the first.
  [[nodiscard]] const wire::View& view() const { return view_; }
  // Since when the view has said of a rank that is served here what it says; nothing: not known.
  [[nodiscard]] std::optional<Instant> state_since(uint32_t rank) const;
  // Whether the coordinator is heard; as the link to it says.
  void set_coordinator_heard(bool is_heard) { is_coordinator_heard_ = is_heard; }
  [[nodiscard]] bool is_coordinator_heard() const { return is_coordinator_heard_; }
  [[nodiscard]] bool is_served(uint32_t rank) const {
    return rank >= options_.served_first && rank - options_.served_first < options_.served_count;
  }
  [[nodiscard]] uint32_t engine_count() const { return options_.engine_count; }
  [[nodiscard]] WaveId wave() const { return wave_; }

 private:
  struct Seen {  // What the view says of a rank.
    Incarnation incarnation;
    Incarnation coordinator;
    wire::MemberState state{};
    Instant since{};
  };
  struct Candidate {
    std::string peer;
    wire::EngineReady ready;
  };

  void on_ready(std::string_view peer, const wire::EngineReady& ready);
  void on_outputs(std::string_view peer, wire::EngineOutputs& outputs);
  void on_reply(std::string_view peer, const wire::UtilityReply& reply);
  void take_output(uint32_t rank, wire::EngineOutput& output);
  void admit(std::string_view peer, const wire::EngineReady& ready);
  // Of this connection nothing more is believed; the engine makes another.
  void break_connection(uint32_t rank, std::string_view why);
  // `is_over`: this life will not come back.
  void lose(uint32_t rank, std::string_view why, bool is_over);
  void fail(RequestKey key, const Status& status, bool must_abort);
  [[nodiscard]] static bool is_live(const Engine& engine);
  [[nodiscard]] static bool may_serve(Incarnation life, const Seen& seen);
  [[nodiscard]] bool is_eligible(uint32_t rank) const;
  void see(const wire::Member& member, const wire::View& view);
  [[nodiscard]] Status send(wire::AddRequest& request, const std::shared_ptr<OutputSink>& sink,
                            uint32_t choice, std::optional<uint32_t> pinned_rank);
  [[nodiscard]] Status check_pin(uint32_t rank) const;
  void note_stall(uint32_t rank);
  void end(RequestKey key);
  void update_capacity();
  // Whatever is to be aborted there.
  TransportResult send_aborts(Engine& engine);
  [[nodiscard]] bool send_call(uint32_t rank, const wire::UtilityCall& call);

  const EngineClientOptions options_;
  EngineTransport& transport_;
  std::vector<Engine> engines_;
  std::unordered_map<uint32_t, Seen> seen_;
  std::unordered_map<uint32_t, Candidate> candidates_;
  std::unordered_set<Incarnation> over_;  // Lives that ended.
  LoadBalancer balancer_;
  Admission admission_;
  Journal journal_;
  EngineCalls calls_{
      [this](uint32_t rank, const wire::UtilityCall& call) { return send_call(rank, call); }};
  Counters counters_;
  wire::CoordinatorStats coordinator_stats_;
  wire::View view_;
  wire::Buffer buffer_;
  std::vector<uint32_t> gone_;  // Nobody connected; failed with the next flush.
  Epoch epoch_;
  WaveId wave_;
  Instant now_{};
  Instant rates_at_{};
  uint64_t next_key_ = 1;
  uint64_t step_tokens_ = 0;  // Of the message being taken.
  uint32_t ready_count_ = 0;
  uint32_t model_tokens_max_ = 0;
  bool draining_ = false;
  bool is_coordinator_heard_ = false;
};

}  // namespace trireme::api
