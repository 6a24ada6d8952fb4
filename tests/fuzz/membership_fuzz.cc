// Goal: no sequence of messages that decode brings a member or the coordinator down, and a member's
// view never goes back. Method: libFuzzer; the bytes are a script of
//
//   'm' SIZE message          to a member          'c' MEMBER SIZE message   to the coordinator
//   't' MILLISECONDS          time passes; what both have to say is thrown away
//
// with SIZE and MEMBER a byte each. Time and script are all that the two machines see.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "coordinator/coordinator_state.h"
#include "proto/member/member_state.h"
#include "proto/messages.h"

namespace trireme {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr std::array kMembers{
    wire::MemberKey{wire::Role::kEngine, 0, Incarnation{1}},
    wire::MemberKey{wire::Role::kEngine, 1, Incarnation{11}},
    wire::MemberKey{wire::Role::kEngine, 1, Incarnation{12}},
    wire::MemberKey{wire::Role::kApiServer, 0, Incarnation{2}},
    wire::MemberKey{wire::Role::kNodeAgent, 0, Incarnation{3}},
};

Bytes take(Bytes& script, std::size_t size) {
  const Bytes taken = script.first(std::min(size, script.size()));
  script = script.subspan(taken.size());
  return taken;
}

uint8_t take_byte(Bytes& script) {
  const Bytes taken = take(script, 1);
  return taken.empty() ? 0 : taken[0];
}

class Pair {
 public:
  void run(Bytes script) {
    while (!script.empty()) {
      const uint8_t verb = take_byte(script);
      if (verb == 'm') {
        tell_member(take(script, take_byte(script)));
      } else if (verb == 'c') {
        const wire::MemberKey& from = kMembers[take_byte(script) % kMembers.size()];
        tell_coordinator(from, take(script, take_byte(script)));
      } else if (verb == 't') {
        now_ += std::chrono::milliseconds(uint64_t{take_byte(script)} * 16);
        turn();
      }
    }
    turn();
  }

 private:
  void tell_member(Bytes bytes) {
    const auto message = wire::unpack_any<member::Incoming>(std::as_bytes(bytes));
    if (message.ok()) member_.on_message(now_, *message);
  }
  void tell_coordinator(const wire::MemberKey& from, Bytes bytes) {
    const auto message = wire::unpack_any<coordinator::Incoming>(std::as_bytes(bytes));
    if (message.ok()) coordinator_.on_message(now_, from, *message);
  }
  void turn() {
    member_.tick(now_, /*is_alive=*/true);
    coordinator_.tick(now_);
    (void)member_.wakeup();
    (void)coordinator_.wakeup();
    for (const auto& message : member_.take_outgoing()) pack(message);
    for (const auto& send : coordinator_.take_sends()) pack(send.message);
    while (member_.next_event()) {
    }
    if (member_.view().epoch < epoch_) std::abort();
    epoch_ = member_.view().epoch;
  }
  template <typename AnyOf>
  void pack(const AnyOf& message) {
    buffer_.clear();
    std::visit([&](const auto& m) { wire::pack(m, buffer_); }, message);
  }

  Instant now_{std::chrono::hours(1)};
  member::MemberState member_{wire::Hello{.role = wire::Role::kEngine}, std::chrono::seconds(3),
                              now_};
  coordinator::CoordinatorState coordinator_{{.engine_count = 2, .self = Incarnation{9}}, now_};
  Epoch epoch_;
  wire::Buffer buffer_;
};

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  trireme::Pair().run({data, size});
  return 0;
}
