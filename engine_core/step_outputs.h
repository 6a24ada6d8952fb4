// StepOutputs: what requests got since the last publication, by front end.
//
// Outputs keep their memory from step to step: take() swaps them into a message, and a message
// that has been sent gives its memory back through the next take(). Threads: one owner.
#pragma once

#include <cstdint>
#include <vector>

#include "common/id.h"
#include "proto/engine_outputs.h"

namespace trireme::engine {

// A front end as this engine numbers it: small, reused after the front end has left.
using FrontEndId = Id<struct FrontEndIdTag, uint32_t>;

class StepOutputs {
 public:
  // An empty output with its key set; valid until the next add().
  wire::EngineOutput& add(FrontEndId front_end, RequestKey key) {
    if (front_end.value >= groups_.size()) groups_.resize(front_end.value + 1);
    Group& group = groups_[front_end.value];
    if (group.used == group.outputs.size()) group.outputs.emplace_back();
    wire::EngineOutput& output = group.outputs[group.used++];
    clear(output);
    output.key = key;
    return output;
  }

  [[nodiscard]] bool has_any(FrontEndId front_end) const {
    return front_end.value < groups_.size() && groups_[front_end.value].used > 0;
  }

  // Replaces `outputs` by the front end's; the old elements' memory is used again.
  void take(FrontEndId front_end, std::vector<wire::EngineOutput>& outputs) {
    if (front_end.value >= groups_.size()) {
      outputs.clear();
      return;
    }
    Group& group = groups_[front_end.value];
    outputs.swap(group.outputs);
    outputs.resize(group.used);
    group.used = 0;
  }

  // The front end has left: nobody is to get what is here.
  void drop(FrontEndId front_end) {
    if (front_end.value < groups_.size()) groups_[front_end.value].used = 0;
  }

 private:
  struct Group {
    std::vector<wire::EngineOutput> outputs;  // The first `used` are current.
    std::size_t used = 0;
  };

  static void clear(wire::EngineOutput& output) {
    output.token_ids.clear();
    output.finish_reason = wire::FinishReason::kNone;
    output.stop_token_id.reset();
    output.logprobs.clear();
    output.prompt_logprobs.clear();
    output.cached_prompt_tokens = 0;
    output.preemptions = 0;
    output.queue_microseconds = 0;
    output.error.clear();
    output.error_code = 0;
    output.prefill_microseconds = 0;
    output.pooled.clear();
  }

  std::vector<Group> groups_;
};

}  // namespace trireme::engine
