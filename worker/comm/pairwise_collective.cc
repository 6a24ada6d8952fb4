#include "worker/comm/pairwise_collective.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/check.h"

namespace trireme::worker {

PairwiseCollective::PairwiseCollective(uint32_t rank, std::vector<Peer> peers)
    : rank_(rank), peers_(std::move(peers)), theirs_(kPartFloats) {
  TRIREME_CHECK(rank < peers_.size(), "a rank of the group");
}

Status PairwiseCollective::send_to_all(std::span<const float> piece) {
  for (uint32_t rank = 0; rank < size() && broken_.ok(); ++rank) {
    if (rank != rank_) broken_ = peers_[rank].out->send(piece);
  }
  return broken_;
}

Status PairwiseCollective::receive_from(uint32_t rank, std::span<float> piece) {
  if (broken_.ok()) broken_ = peers_[rank].in->receive(piece);
  return broken_;
}

Status PairwiseCollective::reduce_piece(std::span<float> piece) {
  TRIREME_RETURN_IF_ERROR(send_to_all(piece));
  mine_.assign(piece.begin(), piece.end());
  const std::span<float> received = std::span(theirs_).first(piece.size());
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank != rank_) TRIREME_RETURN_IF_ERROR(receive_from(rank, received));
    const float* __restrict part = rank == rank_ ? mine_.data() : received.data();
    float* __restrict out = piece.data();
    if (rank == 0) {
      std::copy_n(part, piece.size(), out);
    } else {
      for (std::size_t i = 0; i < piece.size(); ++i) out[i] += part[i];
    }
  }
  return absl::OkStatus();
}

Status PairwiseCollective::all_reduce_sum(std::span<float> values) {
  TRIREME_RETURN_IF_ERROR(broken_);
  for (std::size_t begin = 0; begin < values.size(); begin += kPartFloats) {
    TRIREME_RETURN_IF_ERROR(
        reduce_piece(values.subspan(begin, std::min(kPartFloats, values.size() - begin))));
  }
  return absl::OkStatus();
}

Status PairwiseCollective::all_gather(std::span<const float> mine, std::span<float> out) {
  TRIREME_RETURN_IF_ERROR(broken_);
  for (std::size_t begin = 0; begin < mine.size(); begin += kPartFloats) {
    const auto piece = mine.subspan(begin, std::min(kPartFloats, mine.size() - begin));
    TRIREME_RETURN_IF_ERROR(send_to_all(piece));
    for (uint32_t rank = 0; rank < size(); ++rank) {
      const auto place = out.subspan(rank * mine.size() + begin, piece.size());
      if (rank == rank_) {
        std::copy_n(piece.data(), piece.size(), place.data());
      } else {
        TRIREME_RETURN_IF_ERROR(receive_from(rank, place));
      }
    }
  }
  return absl::OkStatus();
}

Status PairwiseCollective::barrier() {
  float one = 1;
  return all_reduce_sum({&one, 1});
}

}  // namespace trireme::worker
