#include "proto/messages.h"

#include "proto/codec.h"

namespace trireme::wire {
namespace {

// Grown in place, so that a reused buffer costs no allocation.
struct BufferStream {
  Buffer& bytes;
  void write(const char* data, std::size_t size) {
    const auto* first = reinterpret_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), first, first + size);
  }
};

}  // namespace

template <typename Message>
void pack(const Message& message, Buffer& out) {
  BufferStream stream{out};
  encode(message, stream);
}

template <typename Message>
StatusOr<Message> unpack(std::span<const std::byte> bytes) {
  return decode<Message>(bytes);
}

std::optional<MessageKind> peek_kind(std::span<const std::byte> bytes) {
  // fixarray | array16, then the kind: a positive fixint, or uint8 for the numbers from 128 on.
  if (bytes.size() < 2) return std::nullopt;
  const auto lead = static_cast<uint8_t>(bytes[0]);
  std::size_t at = 1;
  if (lead == 0xDC) {
    at = 3;
  } else if ((lead & 0xF0) != 0x90) {
    return std::nullopt;
  }
  if (at >= bytes.size()) return std::nullopt;
  const auto kind = static_cast<uint8_t>(bytes[at]);
  if (kind >= 0x80) return std::nullopt;
  return static_cast<MessageKind>(kind);
}

Status internal::not_for_us(std::optional<MessageKind> kind) {
  if (!kind) return error(StatusCode::kDataLoss, "not one of our messages");
  return error(StatusCode::kDataLoss, "kind %u is none that this receiver takes",
               static_cast<unsigned>(*kind));
}

#define TRIREME_MESSAGE(Message)                        \
  template void pack<Message>(const Message&, Buffer&); \
  template StatusOr<Message> unpack<Message>(std::span<const std::byte>)

TRIREME_MESSAGE(AddRequest);
TRIREME_MESSAGE(AbortRequests);
TRIREME_MESSAGE(UtilityCall);
TRIREME_MESSAGE(UtilityReply);
TRIREME_MESSAGE(EngineOutputs);
TRIREME_MESSAGE(EngineReady);
TRIREME_MESSAGE(Hello);
TRIREME_MESSAGE(Init);
TRIREME_MESSAGE(Refuse);
TRIREME_MESSAGE(MemberReady);
TRIREME_MESSAGE(View);
TRIREME_MESSAGE(ViewChange);
TRIREME_MESSAGE(KeepAlive);
TRIREME_MESSAGE(LoadReport);
TRIREME_MESSAGE(LoadBoard);
TRIREME_MESSAGE(WaveReport);
TRIREME_MESSAGE(StartWave);
TRIREME_MESSAGE(Ack);
TRIREME_MESSAGE(Leave);
TRIREME_MESSAGE(RankReport);
TRIREME_MESSAGE(StepInput);
TRIREME_MESSAGE(StepResult);
TRIREME_MESSAGE(WorkerReady);
TRIREME_MESSAGE(KvInit);
TRIREME_MESSAGE(StopWorker);
TRIREME_MESSAGE(JoinWave);
TRIREME_MESSAGE(ReleaseKv);
TRIREME_MESSAGE(TellExperts);
TRIREME_MESSAGE(GroupHello);
TRIREME_MESSAGE(GroupPlan);
TRIREME_MESSAGE(GroupRefuse);
TRIREME_MESSAGE(GroupKeepAlive);
TRIREME_MESSAGE(GroupEnd);
TRIREME_MESSAGE(StepAgreement);

#undef TRIREME_MESSAGE

}  // namespace trireme::wire
