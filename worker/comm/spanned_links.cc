#include "worker/comm/spanned_links.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::worker {

Status SpannedLinks::enter_wave(WaveId wave, std::span<const uint32_t> members,
                                std::span<const std::string> addresses) {
  if (over_.code() != StatusCode::kAborted && !over_.ok()) return over_;
  if (!addresses.empty() && addresses.size() != members.size()) {
    return error(StatusCode::kInvalidArgument, "wave %u: %u addresses for %u places", wave.value,
                 addresses.size(), members.size());
  }
  const auto found = std::ranges::find(members, place());
  if (found == members.end() ||
      std::ranges::adjacent_find(members, std::greater_equal<>()) != members.end()) {
    return error(StatusCode::kInvalidArgument,
                 "wave %u: its places do not ascend, or place %u is not among them", wave.value,
                 place());
  }
  over_ = error(StatusCode::kAborted, "wave %u could not be joined", wave.value);
  std::vector<uint32_t> near;
  std::vector<RemoteMember> far;
  near_part_ = {};
  far_part_ = {};
  for (uint32_t i = 0; i < members.size(); ++i) {
    const bool is_far = !addresses.empty() && !addresses[i].empty() && members[i] != place();
    if (is_far) far.push_back({.place = members[i], .address = addresses[i]});
    if (!is_far) near.push_back(members[i]);
    (is_far ? far_part_ : near_part_).members.push_back(i);
  }
  near_part_.outgoing.resize(near.size());
  far_part_.outgoing.resize(far.size());
  TRIREME_RETURN_IF_ERROR(near_->join(wave, near));
  TRIREME_RETURN_IF_ERROR(far_->join(wave, far));
  rank_ = static_cast<uint32_t>(found - members.begin());
  size_ = static_cast<uint32_t>(members.size());
  over_ = absl::OkStatus();
  return absl::OkStatus();
}

Status SpannedLinks::transfer(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming) {
  if (!over_.ok()) return over_;
  TRIREME_CHECK(outgoing.size() == size_, "pieces are by member");
  over_ = far_part_.members.empty() ? near_->transfer(outgoing, incoming) : run(outgoing, incoming);
  return over_;
}

Status SpannedLinks::run(std::span<const OutgoingPieces> outgoing, IncomingPieces& incoming) {
  near_part_.pick(outgoing, incoming);
  far_part_.pick(outgoing, incoming);
  far_->begin(far_part_.outgoing);
  const Status status = near_->transfer(near_part_.outgoing, near_part_);
  if (status.ok()) return far_->finish(far_part_, is_abandoned_);
  far_->give_up();
  return status;
}

void SpannedLinks::Part::pick(std::span<const OutgoingPieces> all, IncomingPieces& incoming) {
  whole = &incoming;
  for (std::size_t i = 0; i < members.size(); ++i) outgoing[i] = all[members[i]];
}

}  // namespace trireme::worker
