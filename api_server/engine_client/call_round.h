// CallRound: one question to several engines, and what their answers come to.
//
//   add(rank) ─▶ due ── sent(rank, id) ─▶ asked ── answer(rank, reply) ─▶ answered
//                 drop(rank), from anywhere: left out, as it is gone; add() asks it anew
//
// Complete when all that are in it have answered, and there is one at least. Pure.
// Threads: one owner. Bounds: an entry a rank.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/utility.h"

namespace trireme::api {

// By rank, of those that answered.
class CallAnswers {
 public:
  void put(uint32_t rank, const wire::UtilityReply& reply) { replies_[rank] = reply; }

  [[nodiscard]] bool are_all_ok() const;
  // All said yes to a question of yes or no.
  [[nodiscard]] bool are_all_true() const;
  // "rank 0: ...; rank 3: ...", of those that are not OK.
  [[nodiscard]] std::string refusals() const;
  [[nodiscard]] const std::map<uint32_t, wire::UtilityReply>& replies() const { return replies_; }

 private:
  std::map<uint32_t, wire::UtilityReply> replies_;
};

class CallRound {
 public:
  void add(uint32_t rank) { ranks_[rank] = {}; }
  void drop(uint32_t rank) { ranks_.erase(rank); }
  void sent(uint32_t rank, uint64_t call_id) { ranks_[rank] = {Stage::kAsked, call_id, {}}; }
  // False: it was not asked that, or is not asked any more.
  bool answer(uint32_t rank, const wire::UtilityReply& reply);

  // To be asked, or asked again as the last try did not go out.
  [[nodiscard]] std::vector<uint32_t> due() const { return in_stage(Stage::kDue); }
  [[nodiscard]] bool waits_for(uint32_t rank, uint64_t call_id) const;
  [[nodiscard]] bool is_waiting() const;
  [[nodiscard]] bool is_complete() const { return !ranks_.empty() && !is_waiting(); }
  [[nodiscard]] CallAnswers answers() const;
  // "ranks 0, 3 have not answered", "no engine is ready".
  [[nodiscard]] std::string who_is_silent() const;

 private:
  enum class Stage : uint8_t { kDue, kAsked, kAnswered };
  struct Rank {
    Stage stage = Stage::kDue;
    uint64_t call_id = 0;
    wire::UtilityReply reply;
  };
  [[nodiscard]] std::vector<uint32_t> in_stage(Stage stage) const;

  std::map<uint32_t, Rank> ranks_;
};

}  // namespace trireme::api
