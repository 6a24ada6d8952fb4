// What the tests of links share: pieces that are a function of wave, ends and count, so that a byte
// of another wave, or out of order, shows.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <span>
#include <vector>

#include "common/random.h"
#include "worker/comm/expert_links.h"

namespace trireme::worker {

inline std::vector<uint32_t> places(uint32_t first, uint32_t count) {
  std::vector<uint32_t> all(count);
  std::iota(all.begin(), all.end(), first);
  return all;
}

using Bytes = std::vector<std::byte>;

// Takes what comes from each member into buffers of these sizes.
class Inbox final : public IncomingPieces {
 public:
  explicit Inbox(std::vector<std::vector<Bytes>> pieces) : pieces_(std::move(pieces)) {
    taken_.resize(pieces_.size());
  }
  StatusOr<std::span<std::byte>> next_piece(uint32_t member) override {
    auto& of_member = pieces_[member];
    if (taken_[member] == of_member.size()) return std::span<std::byte>();
    return std::span(of_member[taken_[member]++]);
  }
  std::vector<std::vector<Bytes>> pieces_;

 private:
  std::vector<std::size_t> taken_;
};

// The pieces that go from one place to another as the count-th of a wave: up to three, none empty.
inline std::vector<Bytes> pieces_for(uint64_t wave, uint32_t from, uint32_t to, uint64_t count,
                                     uint64_t bytes_max) {
  Random random(mix64(mix64(mix64(wave) ^ from) ^ to * 77) ^ count);
  std::vector<Bytes> pieces(random.below(4));
  for (Bytes& piece : pieces) {
    piece.resize(1 + random.below(bytes_max));
    for (std::byte& byte : piece) byte = static_cast<std::byte>(random.next());
  }
  return pieces;
}

// One exchange of all members; errors are for the caller, wrong bytes are failures.
inline Status exchange(ExpertLinks& links, uint64_t wave, std::span<const uint32_t> members,
                       uint64_t count, uint64_t bytes_max) {
  std::vector<std::vector<Bytes>> sent;
  std::vector<OutgoingPieces> outgoing(members.size());
  std::vector<std::vector<Bytes>> expected;
  std::vector<std::vector<Bytes>> empty(members.size());
  for (uint32_t i = 0; i < members.size(); ++i) {
    sent.push_back(pieces_for(wave, links.place(), members[i], count, bytes_max));
    expected.push_back(pieces_for(wave, members[i], links.place(), count, bytes_max));
    for (std::size_t k = 0; k < sent[i].size(); ++k) outgoing[i].pieces[k] = sent[i][k];
    for (const Bytes& piece : expected[i]) empty[i].emplace_back(piece.size());
  }
  Inbox inbox(std::move(empty));
  TRIREME_RETURN_IF_ERROR(links.transfer(outgoing, inbox));
  for (uint32_t i = 0; i < members.size(); ++i) {
    if (i != links.rank()) {
      EXPECT_EQ(inbox.pieces_[i], expected[i]) << "wave " << wave << " from " << members[i];
    }
  }
  return absl::OkStatus();
}

// Of one way only, between the only two members: nothing is to come, or nothing goes.
inline Status send_to_other(ExpertLinks& links, const Bytes& bytes) {
  std::vector<OutgoingPieces> outgoing(2);
  outgoing[1 - links.rank()].pieces[0] = bytes;
  Inbox inbox({{}, {}});
  return links.transfer(outgoing, inbox);
}
inline StatusOr<Bytes> receive_from_other(ExpertLinks& links, std::size_t count) {
  std::vector<std::vector<Bytes>> pieces(2);
  pieces[1 - links.rank()].emplace_back(count);
  Inbox inbox(std::move(pieces));
  TRIREME_RETURN_IF_ERROR(links.transfer(std::vector<OutgoingPieces>(2), inbox));
  return inbox.pieces_[1 - links.rank()][0];
}

}  // namespace trireme::worker
