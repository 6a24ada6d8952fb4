// The one encoder and the one decoder of our messages.
//
// On the wire a message is a msgpack array  [kind, version, compat, field, field, ...].
//   version  what the sender wrote;  compat  the oldest decoder that may read it.
// Fields are append-only: a decoder ignores the tail it does not know and leaves fields it did not
// get at their defaults, so two neighbouring releases can share a cluster (rolling restart).
//
// A field is one of
//   bool, integers, float, double, std::string, an Id      as msgpack has them
//   an enum                                                 its underlying integer
//   a struct with fields()                                  an array of its fields, append-only too
//   std::optional<T>                                        nil or T
//   std::vector<int32_t | uint32_t | uint8_t | float>       bin, the elements little-endian
//   std::vector<T> of anything else                         array
//
// Include this only in .cc files: msgpack.hpp is heavy. Messages that others send or receive in
// many places are instantiated once in proto/messages.cc behind proto/messages.h.
#pragma once

#include <msgpack.hpp>

#include <bit>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "common/id.h"
#include "common/status.h"
#include "proto/kind.h"

namespace trireme::wire {

static_assert(std::endian::native == std::endian::little, "bin fields are little-endian");

namespace internal {

template <typename T>
concept HasFields = requires(T& value) {
  T::fields(value);
};
template <typename T>
concept Flat = std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t> ||
    std::is_same_v<T, uint8_t> || std::is_same_v<T, float>;
template <typename T>
concept Enum = std::is_enum_v<T>;

template <typename Packer, typename T>
void put(Packer& packer, const T& value) {
  packer.pack(value);
}
template <typename Packer, Enum T>
void put(Packer& packer, const T& value) {
  packer.pack(static_cast<std::underlying_type_t<T>>(value));
}
template <typename Packer, typename Tag, typename Rep>
void put(Packer& packer, const Id<Tag, Rep>& id) {
  packer.pack(id.value);
}
template <typename Packer, HasFields T>
void put(Packer& packer, const T& value);
template <typename Packer, typename T>
void put(Packer& packer, const std::optional<T>& value);
template <typename Packer, typename T>
void put(Packer& packer, const std::vector<T>& values);

template <typename Packer, HasFields T>
void put(Packer& packer, const T& value) {
  std::apply(
      [&](const auto&... field) {
        packer.pack_array(sizeof...(field));
        (put(packer, field), ...);
      },
      T::fields(value));
}
template <typename Packer, typename T>
void put(Packer& packer, const std::optional<T>& value) {
  if (value.has_value()) {
    put(packer, *value);
  } else {
    packer.pack_nil();
  }
}
template <typename Packer, typename T>
void put(Packer& packer, const std::vector<T>& values) {
  if constexpr (Flat<T>) {
    const auto bytes = static_cast<uint32_t>(values.size() * sizeof(T));
    packer.pack_bin(bytes);
    packer.pack_bin_body(reinterpret_cast<const char*>(values.data()), bytes);
  } else {
    packer.pack_array(static_cast<uint32_t>(values.size()));
    for (const T& value : values) put(packer, value);
  }
}

template <typename T>
void get(const msgpack::object& object, T& value) {
  object.convert(value);
}
template <Enum T>
void get(const msgpack::object& object, T& value) {
  value = static_cast<T>(object.as<std::underlying_type_t<T>>());
}
template <typename Tag, typename Rep>
void get(const msgpack::object& object, Id<Tag, Rep>& id) {
  object.convert(id.value);
}
template <HasFields T>
void get(const msgpack::object& object, T& value);
template <typename T>
void get(const msgpack::object& object, std::optional<T>& value);
template <typename T>
void get(const msgpack::object& object, std::vector<T>& values);

template <typename Fields>
void get_fields(std::span<const msgpack::object> items, Fields fields) {
  std::size_t next = 0;
  std::apply(
      [&](auto&... field) { ((next < items.size() ? get(items[next++], field) : void()), ...); },
      fields);
}
template <HasFields T>
void get(const msgpack::object& object, T& value) {
  if (object.type != msgpack::type::ARRAY) throw msgpack::type_error();
  get_fields(std::span(object.via.array.ptr, object.via.array.size), T::fields(value));
}
template <typename T>
void get(const msgpack::object& object, std::optional<T>& value) {
  if (object.is_nil()) {
    value.reset();
  } else {
    get(object, value.emplace());
  }
}
template <typename T>
void get(const msgpack::object& object, std::vector<T>& values) {
  if constexpr (Flat<T>) {
    if (object.type != msgpack::type::BIN || object.via.bin.size % sizeof(T) != 0) {
      throw msgpack::type_error();
    }
    values.resize(object.via.bin.size / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), object.via.bin.ptr, object.via.bin.size);
  } else {
    if (object.type != msgpack::type::ARRAY) throw msgpack::type_error();
    values.clear();
    values.reserve(object.via.array.size);
    for (const msgpack::object& item : std::span(object.via.array.ptr, object.via.array.size)) {
      get(item, values.emplace_back());
    }
  }
}

inline constexpr std::size_t kNestingMax = 8;

}  // namespace internal

// Stream: anything with write(const char*, size_t).
template <typename Message, typename Stream>
void encode(const Message& message, Stream& out) {
  msgpack::packer<Stream> packer(out);
  std::apply(
      [&](const auto&... field) {
        packer.pack_array(3 + sizeof...(field));
        packer.pack(static_cast<uint16_t>(Message::kKind));
        packer.pack(Message::kVersion);
        packer.pack(Message::kCompat);
        (internal::put(packer, field), ...);
      },
      Message::fields(message));
}

// Bytes come from a peer: nothing in them may abort us, throw out of here, or make us allocate
// more than the message itself justifies. (msgpack throws; this is where that ends.)
template <typename Message>
[[nodiscard]] StatusOr<Message> decode(std::span<const std::byte> bytes) try {
  // Positional: array, map, str, bin, ext elements, nesting depth. An element costs at least a
  // byte.
  const msgpack::unpack_limit limit(bytes.size(), 0, bytes.size(), bytes.size(), 0,
                                    internal::kNestingMax);
  const auto reference = [](msgpack::type::object_type, std::size_t, void*) { return true; };
  msgpack::zone zone;
  bool referenced = false;
  const msgpack::object root = msgpack::unpack(zone, reinterpret_cast<const char*>(bytes.data()),
                                               bytes.size(), referenced, reference, nullptr, limit);
  if (root.type != msgpack::type::ARRAY || root.via.array.size < 3) {
    return error(StatusCode::kDataLoss, "message is not an array of at least 3");
  }
  const std::span<const msgpack::object> items(root.via.array.ptr, root.via.array.size);
  const auto kind = items[0].as<uint16_t>();
  const auto compat = items[2].as<uint8_t>();
  if (kind != static_cast<uint16_t>(Message::kKind)) {
    return error(StatusCode::kDataLoss, "kind %u where %u belongs", kind,
                 static_cast<uint16_t>(Message::kKind));
  }
  if (compat > Message::kVersion) {
    return error(StatusCode::kFailedPrecondition, "peer needs version %u of kind %u, we have %u",
                 compat, kind, Message::kVersion);
  }
  Message message;
  internal::get_fields(items.subspan(3), Message::fields(message));
  return message;
} catch (const std::exception& failure) {  // msgpack::type_error, size overflows, short input.
  return error(StatusCode::kDataLoss, "undecodable message: %s", failure.what());
}

}  // namespace trireme::wire
