// Numbers on the wire. Never reuse or renumber one; retired numbers stay listed as retired.
#pragma once

#include <cstdint>

namespace trireme::wire {

enum class MessageKind : uint16_t {
  // Requests channel: api-server -> engine.
  kAddRequest = 1,
  kAbortRequests = 2,
  kUtilityCall = 4,
  // Requests channel: engine -> api-server.
  kEngineOutputs = 16,
  kEngineReady = 17,
  kUtilityReply = 18,
  // Control channel: member -> coordinator.
  kHello = 32,
  kMemberReady = 33,
  kLoadReport = 34,
  kWaveReport = 35,
  kAck = 36,
  kLeave = 37,
  kKeepAlive = 38,
  kRankReport = 39,
  // Control channel: coordinator -> member.
  kInit = 48,
  kRefuse = 49,
  kView = 50,
  kLoadBoard = 51,
  kStartWave = 52,
  // 53 was kCommand: retired.
  kViewChange = 54,
  // Steps and results: engine <-> worker.
  kStepInput = 64,
  kStepResult = 65,
  kWorkerReady = 66,
  kKvInit = 67,
  kStopWorker = 68,
  kJoinWave = 69,
  kReleaseKv = 71,
  kTellExperts = 77,
  // Workers on several nodes: engine <-> those who start workers elsewhere.
  kGroupHello = 72,
  kGroupPlan = 73,
  kGroupRefuse = 74,
  kGroupKeepAlive = 75,
  kGroupEnd = 76,
  // Engines of a lockstep group on several nodes, among themselves.
  kStepAgreement = 80,
};

}  // namespace trireme::wire
