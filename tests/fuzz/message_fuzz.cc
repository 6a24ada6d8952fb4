// Goal: no bytes of a peer crash a decoder, and what decodes survives another round.
// Method: libFuzzer; the first two bytes choose the message by its kind, as the receiving loops do.
#include <cstdint>
#include <cstdlib>

#include "proto/messages.h"

namespace trireme::wire {
namespace {

template <typename Message>
bool try_kind(MessageKind kind, std::span<const std::byte> bytes) {
  if (kind != Message::kKind) return false;
  const auto decoded = unpack<Message>(bytes);
  if (!decoded.ok()) return true;
  Buffer once;
  pack(*decoded, once);
  const auto again = unpack<Message>(once);
  if (!again.ok()) std::abort();
  Buffer twice;
  pack(*again, twice);
  if (once != twice) std::abort();  // Bytes, not values: a NaN is not equal to itself.
  return true;
}

template <typename... Messages>
void try_all(MessageKind kind, std::span<const std::byte> bytes) {
  (void)(try_kind<Messages>(kind, bytes) || ...);
}

void run(std::span<const std::byte> bytes) {
  const auto kind = peek_kind(bytes);
  if (!kind.has_value()) return;
  try_all<AddRequest, AbortRequests, UtilityCall, UtilityReply, EngineOutputs, EngineReady, Hello,
          Init, Refuse, MemberReady, View, ViewChange, KeepAlive, LoadReport, LoadBoard, WaveReport,
          StartWave, Ack, Leave, RankReport, StepInput, StepResult, WorkerReady, KvInit, StopWorker,
          JoinWave, ReleaseKv, TellExperts, GroupHello, GroupPlan, GroupRefuse, GroupKeepAlive,
          GroupEnd>(*kind, bytes);
}

}  // namespace
}  // namespace trireme::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  trireme::wire::run(std::as_bytes(std::span(data, size)));
  return 0;
}
