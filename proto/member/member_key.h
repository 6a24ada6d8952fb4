// MemberKey: who sent a control message. It is also the sender's ZeroMQ routing id, so that the
// coordinator needs no table from connections to members and a reconnect changes nothing.
//
// Bytes of the routing id: role (1; never 0, which ZeroMQ keeps for itself), index (4),
// incarnation (8), little-endian. Anything else is no member of ours.
#pragma once

#include <compare>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "common/id.h"
#include "proto/membership.h"

namespace trireme::wire {

struct MemberKey {
  Role role{};
  uint32_t index = 0;
  Incarnation incarnation;
  friend auto operator<=>(const MemberKey&, const MemberKey&) = default;
};

inline constexpr std::size_t kMemberKeyBytes = 13;

[[nodiscard]] inline std::string to_routing_id(const MemberKey& key) {
  std::string id(kMemberKeyBytes, '\0');
  id[0] = static_cast<char>(key.role);
  std::memcpy(id.data() + 1, &key.index, sizeof(key.index));
  std::memcpy(id.data() + 5, &key.incarnation.value, sizeof(key.incarnation.value));
  return id;
}

[[nodiscard]] inline std::optional<MemberKey> to_member_key(std::string_view routing_id) {
  if (routing_id.size() != kMemberKeyBytes) return std::nullopt;
  MemberKey key;
  key.role = static_cast<Role>(routing_id[0]);
  std::memcpy(&key.index, routing_id.data() + 1, sizeof(key.index));
  std::memcpy(&key.incarnation.value, routing_id.data() + 5, sizeof(key.incarnation.value));
  if (key.role < Role::kEngine || key.role > Role::kNodeAgent) return std::nullopt;
  return key;
}

}  // namespace trireme::wire
