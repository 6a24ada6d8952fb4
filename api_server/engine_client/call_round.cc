#include "api_server/engine_client/call_round.h"

#include <algorithm>

#include "common/status.h"

namespace trireme::api {

bool CallAnswers::are_all_ok() const {
  return std::ranges::all_of(replies_, [](const auto& entry) { return entry.second.ok; });
}

bool CallAnswers::are_all_true() const {
  return std::ranges::all_of(
      replies_, [](const auto& entry) { return entry.second.ok && entry.second.result == "true"; });
}

std::string CallAnswers::refusals() const {
  std::string text;
  for (const auto& [rank, reply] : replies_) {
    if (reply.ok) continue;
    if (!text.empty()) text += "; ";
    text += absl::StrFormat("rank %u: %s", rank, reply.result);
  }
  return text;
}

bool CallRound::waits_for(uint32_t rank, uint64_t call_id) const {
  const auto found = ranks_.find(rank);
  return found != ranks_.end() && found->second.stage == Stage::kAsked &&
         found->second.call_id == call_id;
}

bool CallRound::answer(uint32_t rank, const wire::UtilityReply& reply) {
  if (!waits_for(rank, reply.call_id)) return false;
  ranks_[rank] = {Stage::kAnswered, reply.call_id, reply};
  return true;
}

bool CallRound::is_waiting() const {
  return std::ranges::any_of(
      ranks_, [](const auto& entry) { return entry.second.stage != Stage::kAnswered; });
}

std::vector<uint32_t> CallRound::in_stage(Stage stage) const {
  std::vector<uint32_t> found;
  for (const auto& [rank, entry] : ranks_) {
    if (entry.stage == stage) found.push_back(rank);
  }
  return found;
}

CallAnswers CallRound::answers() const {
  CallAnswers answers;
  for (const auto& [rank, entry] : ranks_) {
    if (entry.stage == Stage::kAnswered) answers.put(rank, entry.reply);
  }
  return answers;
}

std::string CallRound::who_is_silent() const {
  std::vector<uint32_t> silent = in_stage(Stage::kDue);
  const std::vector<uint32_t> asked = in_stage(Stage::kAsked);
  silent.insert(silent.end(), asked.begin(), asked.end());
  if (silent.empty()) return "no engine is ready";
  std::ranges::sort(silent);
  std::string names;
  for (const uint32_t rank : silent) {
    names += absl::StrFormat(names.empty() ? "%u" : ", %u", rank);
  }
  return absl::StrFormat(
      silent.size() == 1 ? "rank %s has not answered" : "ranks %s have not answered", names);
}

}  // namespace trireme::api
