// Encode and decode every message, without the weight of msgpack.hpp: instantiated in messages.cc.
//
//   Buffer buffer;
//   pack(view, buffer);                       // appends; buffer.clear() keeps its memory
//   StatusOr<View> got = unpack<View>(bytes);  // kDataLoss: garbage; kFailedPrecondition: too new
//
// Pure, no shared state: any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "common/status.h"
#include "proto/add_request.h"
#include "proto/engine_outputs.h"
#include "proto/membership.h"
#include "proto/step.h"
#include "proto/utility.h"

namespace trireme::wire {

using Buffer = std::vector<std::byte>;

template <typename Message>
void pack(const Message& message, Buffer& out);

template <typename Message>
[[nodiscard]] StatusOr<Message> unpack(std::span<const std::byte> bytes);

// The kind of an encoded message, without decoding it; nothing if these bytes are not one of ours.
[[nodiscard]] std::optional<MessageKind> peek_kind(std::span<const std::byte> bytes);

}  // namespace trireme::wire
