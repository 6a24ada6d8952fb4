// Encode and decode every message, without the weight of msgpack.hpp: instantiated in messages.cc.
//
//   Buffer buffer;
//   pack(view, buffer);                       // appends; buffer.clear() keeps its memory
//   StatusOr<View> got = unpack<View>(bytes);  // kDataLoss: garbage; kFailedPrecondition: too new
//   unpack_any<std::variant<View, Ack>>(bytes); // whichever of these it is
//
// Pure, no shared state: any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "common/status.h"
#include "proto/add_request.h"
#include "proto/engine_outputs.h"
#include "proto/membership.h"
#include "proto/step.h"
#include "proto/step_agreement.h"
#include "proto/utility.h"
#include "proto/worker_group.h"

namespace trireme::wire {

using Buffer = std::vector<std::byte>;

template <typename Message>
void pack(const Message& message, Buffer& out);

template <typename Message>
[[nodiscard]] StatusOr<Message> unpack(std::span<const std::byte> bytes);

// The kind of an encoded message, without decoding it; nothing if these bytes are not one of ours.
[[nodiscard]] std::optional<MessageKind> peek_kind(std::span<const std::byte> bytes);

namespace internal {

[[nodiscard]] Status not_for_us(std::optional<MessageKind> kind);

template <typename Message, typename AnyOf>
bool unpack_kind(MessageKind kind, std::span<const std::byte> bytes, StatusOr<AnyOf>& result) {
  if (kind != Message::kKind) return false;
  StatusOr<Message> message = unpack<Message>(bytes);
  result = message.ok() ? StatusOr<AnyOf>(*std::move(message)) : message.status();
  return true;
}

template <typename... Messages>
StatusOr<std::variant<Messages...>> unpack_one_of(std::span<const std::byte> bytes,
                                                  const std::variant<Messages...>*) {
  const auto kind = peek_kind(bytes);
  StatusOr<std::variant<Messages...>> result = not_for_us(kind);
  if (kind) (void)(unpack_kind<Messages>(*kind, bytes, result) || ...);
  return result;
}

}  // namespace internal

// For a receiver of several messages: AnyOf is a std::variant of them, and the kind that the bytes
// name chooses. kDataLoss for every other kind.
template <typename AnyOf>
[[nodiscard]] StatusOr<AnyOf> unpack_any(std::span<const std::byte> bytes) {
  return internal::unpack_one_of(bytes, static_cast<const AnyOf*>(nullptr));
}

}  // namespace trireme::wire
