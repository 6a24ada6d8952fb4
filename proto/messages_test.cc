// Goal: every message survives the wire, keeps its bytes for ever, and no peer's bytes can hurt us.
// Method: one filled example per message; round trip, golden bytes, every truncation, every flipped
// byte.
#include "proto/messages.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace trireme::wire {
namespace {

AddRequest example(AddRequest*) {
  AddRequest m{.key = RequestKey{7}, .request_id = "cmpl-1", .prompt_token_ids = {1, 2, 300}};
  m.sampling.temperature = 0.5F;
  m.sampling.seed = 99;
  m.sampling.eos_token_ids = {2};
  m.sampling.logit_bias = {{5, -1.5F}};
  m.sampling.bad_words = {{{8, 9}}};
  m.sampling.pooling = Pooling::kMean;
  m.priority = -1;
  m.cache_salt = "s";
  m.wave = WaveId{5};
  m.output_token_ids = {4};
  return m;
}
AbortRequests example(AbortRequests*) { return {{RequestKey{7}, RequestKey{1ULL << 40}}}; }
UtilityCall example(UtilityCall*) { return {3, UtilityMethod::kPause, "wait", 1700000000000000}; }
ExpertTable example(ExpertTable*) { return {1, 3, 2, 1000, {30, 300}, {70000}, {1, 2}, {0, 1, 3}}; }
UtilityReply example(UtilityReply*) {
  return {3, EngineId{1}, true, "null", {example(static_cast<ExpertTable*>(nullptr))}};
}
EngineStats stats() {
  EngineStats stats{1,  2, 0.25F,     StepId{9}, WaveId{1}, 10,   5, 1, 100,     50,  7, 3,
                    12, 6, {3, 2, 1}, 20,        16,        4096, 1, 2, "waits", 300, 4, 0.5F};
  stats.standing = {Stepping::kInWave, HeldPause::kKeep,
                    Stall{StallPhase::kDispatch, Epoch{4}, 881, {3}, 4711, 3200}};
  return stats;
}
EngineOutputs example(EngineOutputs*) {
  EngineOutput output{.key = RequestKey{7}, .token_ids = {3}, .finish_reason = FinishReason::kStop};
  output.stop_token_id = 3;
  output.logprobs = {{{3, 4}, {-0.5F, -1.0F}, 1}};
  output.pooled = {0.5F, -2.0F};
  const ShmStats shm{{1, 2, 3, 4, 5, 6, 7, 8}, {11, 12, 13, 14, 15, 16, 17, 18}};
  return {EngineId{1}, Incarnation{11}, 4, stats(), {output}, 2, 5, shm};
}
EngineReady example(EngineReady*) {
  return {EngineId{1}, Incarnation{11}, 100, 16, 2048, 256, 2048};
}
Hello example(Hello*) {
  return {Role::kEngine,           1,        Incarnation{11}, "node", 42, "0.1.0",
          {{"dtype", "bfloat16"}}, Epoch{3}, WaveId{2}};
}
Init example(Init*) { return {Epoch{3}, Incarnation{12}, 3000, 4}; }
Refuse example(Refuse*) { return {"dtype: bfloat16 here, float32 there", true}; }
MemberReady example(MemberReady*) {
  return {{"tcp://127.0.0.1:5000"}, 100, 16, 2048, {43, 44}, "http://127.0.0.1:8000"};
}
View example(View*) {
  return {Epoch{4},
          Incarnation{12},
          {{Role::kEngine, 1, Incarnation{11}, MemberState::kReady, "node", 42,
            example(static_cast<MemberReady*>(nullptr)), 2, "killed by signal 9 (SIGKILL)"}}};
}
ViewChange example(ViewChange*) {
  return {Epoch{4}, Epoch{5}, Incarnation{12}, example(static_cast<View*>(nullptr)).members};
}
KeepAlive example(KeepAlive*) { return {Incarnation{11}, MemberState::kDraining, Epoch{4}}; }
LoadReport example(LoadReport*) { return {EngineId{1}, Incarnation{11}, 8, stats()}; }
LoadBoard example(LoadBoard*) {
  return {Epoch{4}, {example(static_cast<LoadReport*>(nullptr))}, {1, 2, 3}};
}
WaveReport example(WaveReport*) {
  return {EngineId{1}, Incarnation{11}, WaveEventKind::kRunning, WaveId{5}, {0, 2}};
}
StartWave example(StartWave*) {
  return {WaveId{5}, 5, Epoch{4}, {0, 2}, WaveId{3}, {0, 1}, {{}, {"tcp://10.0.0.2:5"}}};
}
Ack example(Ack*) { return {6}; }
Leave example(Leave*) { return {"drained"}; }
RankReport example(RankReport*) {
  return {EngineId{1}, Incarnation{11}, "killed by signal 9 (SIGKILL)", 2, 500};
}
StepInput example(StepInput*) {
  StepInput m{.step = StepId{9}, .epoch = Epoch{4}, .wave = WaveId{1}, .freed_slots = {2}};
  m.new_sequences = {
      {SlotId{3}, {1, 2, 3}, 3, {7}, example(static_cast<AddRequest*>(nullptr)).sampling}};
  m.row_slot = {3, 5};
  m.row_start = {0, 17};
  m.row_count = {3, 1};
  m.row_flags = {kRowSamples, kRowSamples};
  m.row_known_start = {3, 17};
  m.row_known_count = {0, 1};
  m.known_tokens = {77};
  m.row_block_count = {0, 1};
  m.blocks = {9};
  m.row_draft_count = {0, 2};
  m.draft_tokens = {8, 300};
  m.save_blocks = {9};
  m.save_slots = {70000};
  m.load_blocks = {7, 8};
  m.load_slots = {1, 2};
  return m;
}
StepResult example(StepResult*) {
  return {StepId{9},
          {5, kNoToken},
          {{0, {{{5}, {-0.1F}, 1}}, {}}},
          250,
          "",
          {0, 1},
          {{1, {0.5F, -2.0F}}},
          {70000},
          1,
          {8},
          true,
          ExpertLoad{300, 4, 0.5F},
          example(static_cast<ExpertTable*>(nullptr))};
}
WorkerReady example(WorkerReady*) {
  return {1, 43, 1000, 64, 1 << 20, 30, "", true, "tcp://10.0.0.1:5"};
}
KvInit example(KvInit*) { return {100, 5000}; }
StopWorker example(StopWorker*) { return {}; }
ReleaseKv example(ReleaseKv*) { return {}; }
TellExperts example(TellExperts*) { return {}; }
JoinWave example(JoinWave*) { return {WaveId{7}, {0, 2}, {"", "tcp://10.0.0.2:6"}}; }
GroupHello example(GroupHello*) {
  return {2, 2, Incarnation{21}, "node", 42, {{"dtype", "bfloat16"}}, {{1, 2, "tcp://10.0.0.2:1"}}};
}
GroupPlan example(GroupPlan*) {
  return {Incarnation{20},
          Incarnation{21},
          "tcp://10.0.0.1:2",
          "tcp://10.0.0.1:3",
          3000,
          {{1, 2, "tcp://10.0.0.2:1"}},
          "front",
          41};
}
GroupRefuse example(GroupRefuse*) { return {Incarnation{21}, "dtype differs", true}; }
GroupKeepAlive example(GroupKeepAlive*) {
  return {Incarnation{20}, Incarnation{21}, true, StepId{22}};
}
StepAgreement example(StepAgreement*) {
  return {WaveId{7}, 12, 3, true, true, WaveId{0}, WaveId{8}, 1700000000000000, 2};
}
GroupEnd example(GroupEnd*) { return {Incarnation{20}, Incarnation{21}, "stopped", true}; }

template <typename Message>
class Messages : public testing::Test {};
using All =
    testing::Types<AddRequest, AbortRequests, UtilityCall, UtilityReply, EngineOutputs, EngineReady,
                   Hello, Init, Refuse, MemberReady, View, ViewChange, KeepAlive, LoadReport,
                   LoadBoard, WaveReport, StartWave, Ack, Leave, RankReport, StepInput, StepResult,
                   WorkerReady, KvInit, StopWorker, JoinWave, ReleaseKv, TellExperts, GroupHello,
                   GroupPlan, GroupRefuse, GroupKeepAlive, GroupEnd, StepAgreement>;
TYPED_TEST_SUITE(Messages, All);

template <typename Message>
Buffer packed_example() {
  Buffer bytes;
  pack(example(static_cast<Message*>(nullptr)), bytes);
  return bytes;
}

std::string hex(const Buffer& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[static_cast<uint8_t>(b) >> 4];
    text += kDigits[static_cast<uint8_t>(b) & 15];
  }
  return text;
}

TYPED_TEST(Messages, decodes_what_it_encodes) {
  const auto decoded = unpack<TypeParam>(packed_example<TypeParam>());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, example(static_cast<TypeParam*>(nullptr)));
}

// The bytes are the contract: a change here is a new version of the message. With
// TRIREME_REWRITE_GOLDEN set the files are written anew, and the diff is reviewed.
TYPED_TEST(Messages, golden_bytes_stay) {
  const auto kind = static_cast<int>(TypeParam::kKind);
  const std::filesystem::path path =
      "tests/golden/wire/kind_" + std::to_string(kind) + "_v" + std::to_string(TypeParam::kVersion);
  if (std::getenv("TRIREME_REWRITE_GOLDEN") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << hex(packed_example<TypeParam>()) << '\n';
  }
  std::string golden;
  std::ifstream(path) >> golden;
  EXPECT_EQ(hex(packed_example<TypeParam>()), golden) << path;
}

TYPED_TEST(Messages, kind_is_seen_without_decoding) {
  EXPECT_EQ(peek_kind(packed_example<TypeParam>()), TypeParam::kKind);
}

TYPED_TEST(Messages, every_truncation_is_an_error_and_never_a_crash) {
  const Buffer bytes = packed_example<TypeParam>();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(unpack<TypeParam>(std::span(bytes).first(size)).ok()) << "size=" << size;
  }
}

TYPED_TEST(Messages, any_flipped_byte_is_decoded_or_refused_without_a_crash) {
  const Buffer bytes = packed_example<TypeParam>();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      Buffer changed = bytes;
      changed[at] ^= static_cast<std::byte>(flip);
      (void)unpack<TypeParam>(changed);
      (void)peek_kind(changed);
    }
  }
}

TYPED_TEST(Messages, unknown_fields_at_the_end_are_ignored) {
  Buffer bytes = packed_example<TypeParam>();
  if (static_cast<uint8_t>(bytes[0]) >= 0x9F) return;  // array16: the count is elsewhere.
  bytes[0] = static_cast<std::byte>(static_cast<uint8_t>(bytes[0]) + 1);
  bytes.push_back(std::byte{0x2A});
  const auto decoded = unpack<TypeParam>(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, example(static_cast<TypeParam*>(nullptr)));
}

TYPED_TEST(Messages, message_from_the_future_is_refused_with_a_reason) {
  Buffer bytes = packed_example<TypeParam>();
  const std::size_t kind_at = static_cast<uint8_t>(bytes[0]) == 0xDC ? 3 : 1;
  bytes[kind_at + 1] = std::byte{9};
  bytes[kind_at + 2] = std::byte{9};
  EXPECT_EQ(unpack<TypeParam>(bytes).status().code(), StatusCode::kFailedPrecondition);
}

TEST(Codec, fields_missing_at_the_end_keep_their_defaults) {
  // AddRequest with a key and an id only.
  const std::string text = "\x95\x01\x01\x01\x07\xa1x";
  const auto decoded = unpack<AddRequest>(std::as_bytes(std::span(text)));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->key, RequestKey{7});
  EXPECT_EQ(decoded->sampling, SamplingParams{});
}

// Two neighbouring releases share a cluster: what the older one says is understood.
TYPED_TEST(Messages, golden_bytes_of_older_versions_are_decoded) {
  for (int version = TypeParam::kCompat; version < TypeParam::kVersion; ++version) {
    const auto kind = static_cast<int>(TypeParam::kKind);
    const std::string path =
        "tests/golden/wire/kind_" + std::to_string(kind) + "_v" + std::to_string(version);
    std::string golden;
    std::ifstream(path) >> golden;
    Buffer bytes;
    for (std::size_t at = 0; at + 1 < golden.size(); at += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(golden.substr(at, 2), nullptr, 16)));
    }
    const auto decoded = unpack<TypeParam>(bytes);
    EXPECT_TRUE(decoded.ok()) << path << ": " << decoded.status();
  }
}

TEST(AnyOf, takes_the_messages_of_its_variant_and_no_other) {
  using AnyOf = std::variant<Ack, Leave>;
  const auto leave = unpack_any<AnyOf>(packed_example<Leave>());
  ASSERT_TRUE(leave.ok()) << leave.status();
  EXPECT_EQ(std::get<Leave>(*leave), example(static_cast<Leave*>(nullptr)));
  const auto view = unpack_any<AnyOf>(packed_example<View>());
  EXPECT_EQ(view.status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(unpack_any<AnyOf>({}).status().code(), StatusCode::kDataLoss);
}

TEST(AnyOf, a_message_from_the_future_keeps_its_reason) {
  Buffer bytes = packed_example<Ack>();
  bytes[2] = bytes[3] = std::byte{9};
  const auto ack = unpack_any<std::variant<Ack, Leave>>(bytes);
  EXPECT_EQ(ack.status().code(), StatusCode::kFailedPrecondition);
}

TEST(Codec, nesting_beyond_the_limit_is_refused) {
  const std::string deep(4096, '\x91');
  EXPECT_EQ(unpack<View>(std::as_bytes(std::span(deep))).status().code(), StatusCode::kDataLoss);
}

TEST(Codec, announced_size_without_bytes_allocates_nothing) {
  const std::string huge = "\xdd\xff\xff\xff\xff";
  EXPECT_EQ(unpack<View>(std::as_bytes(std::span(huge))).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::wire
