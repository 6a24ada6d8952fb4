// Golden transcripts: tests/golden/coordinator/*.txt hold commands, "----", and what the
// coordinator said. TRIREME_REWRITE_GOLDEN=1 writes them anew; the diff is reviewed.
//
//   hello <role> <index> life=<n> [epoch=] [wave=] [node=] [launch=] [dtype=]     ready | leave ...
//   alive <role> <index> life=<n> [epoch=] [state=starting|ready|draining]
//   load engine <i> life=<n> sequence= waiting=     wave engine <i> life=<n> start=|complete=|in=
//   [awaits=] died agent <i> life=<n> rank= of= restarts= wait ms=<n>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "common/status.h"
#include "coordinator/coordinator_state.h"

namespace trireme::coordinator {
namespace {

using wire::MemberState;
using wire::Role;

constexpr char kFolder[] = "tests/golden/coordinator";

std::string text_of(Role role) {
  return role == Role::kEngine ? "engine" : role == Role::kApiServer ? "api" : "agent";
}
std::string text_of(MemberState state) {
  static constexpr const char* kNames[] = {"?", "starting", "ready", "draining", "lost"};
  return kNames[static_cast<int>(state)];
}
std::string text_of(const wire::MemberKey& key) {
  return absl::StrFormat("%s %u#%u", text_of(key.role), key.index, key.incarnation.value);
}

std::string text_of(const wire::Init& init) {
  return absl::StrFormat("init epoch=%u lease=%u engines=%u", init.epoch.value,
                         init.lease_milliseconds, init.engine_count);
}
std::string text_of(const wire::Refuse& refuse) {
  return absl::StrFormat("refuse%s %s", refuse.is_final ? " (final)" : "", refuse.reason);
}
std::string text_of(const wire::View& view) {
  std::string text = absl::StrFormat("view %u", view.epoch.value);
  for (const wire::Member& member : view.members) {
    text += absl::StrFormat("\n    %s %s", text_of({member.role, member.index, member.incarnation}),
                            text_of(member.state));
    if (member.restarts > 0) text += absl::StrFormat(" restarts=%u", member.restarts);
    if (!member.reason.empty()) text += absl::StrFormat(" (%s)", member.reason);
  }
  return text;
}
std::string text_of(const wire::ViewChange& change) {
  return absl::StrFormat("change of %u to ", change.base.value) +
         text_of(wire::View{.epoch = change.epoch, .members = change.changed});
}
std::string text_of(const wire::LoadBoard& board) {
  std::string text = "board";
  for (const wire::LoadReport& report : board.reports) {
    text += absl::StrFormat(" %u:%u", report.engine.value, report.stats.waiting);
  }
  if (board.stats.not_in_view > 0) text += absl::StrFormat(" dropped=%u", board.stats.not_in_view);
  return text;
}
std::string text_of(const wire::StartWave& start) {
  std::string text = absl::StrFormat("start_wave %u of ranks", start.wave.value);
  for (const uint32_t rank : start.ranks) text += absl::StrFormat(" %u", rank);
  if (start.abandon_below > WaveId{}) {
    text += absl::StrFormat(", abandon below %u", start.abandon_below.value);
  }
  return text;
}
std::string text_of(const wire::Ack&) { return "ack"; }

class Transcript {
 public:
  void run(const std::string& line) {
    std::istringstream words(line);
    std::string verb, role, word;
    words >> verb;
    arguments_.clear();
    wire::MemberKey from;
    if (verb != "wait") {
      words >> role >> from.index;
      from.role = role == "engine" ? Role::kEngine
                  : role == "api"  ? Role::kApiServer
                                   : Role::kNodeAgent;
    }
    while (words >> word) {
      const std::size_t equals = word.find('=');
      ASSERT_NE(equals, std::string::npos) << line;
      arguments_[word.substr(0, equals)] = word.substr(equals + 1);
    }
    from.incarnation = Incarnation{number("life")};
    if (verb == "wait") {
      wait(std::chrono::milliseconds(number("ms")));
    } else {
      state_.on_message(now_, from, message(verb, from));
      state_.tick(now_);
      write();
    }
  }
  [[nodiscard]] std::string take_output() { return std::exchange(output_, {}); }

 private:
  uint64_t number(const std::string& name) const {
    const auto found = arguments_.find(name);
    return found == arguments_.end() ? 0 : std::stoull(found->second);
  }
  std::vector<uint32_t> awaits() const {
    if (!arguments_.contains("awaits")) return {};
    return {static_cast<uint32_t>(number("awaits"))};
  }
  std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = arguments_.find(name);
    return found == arguments_.end() ? otherwise : found->second;
  }

  Incoming message(const std::string& verb, const wire::MemberKey& from) const {
    if (verb == "ready") return wire::MemberReady{.block_count = 100};
    if (verb == "leave") return wire::Leave{.reason = text("reason", "stopped")};
    if (verb == "alive") {
      const std::string state = text("state", "ready");
      return wire::KeepAlive{.incarnation = from.incarnation,
                             .state = state == "ready"      ? MemberState::kReady
                                      : state == "draining" ? MemberState::kDraining
                                                            : MemberState::kStarting,
                             .epoch_seen = Epoch{number("epoch")}};
    }
    if (verb == "load") {
      wire::LoadReport report{.engine = EngineId{from.index},
                              .incarnation = from.incarnation,
                              .sequence = number("sequence")};
      report.stats.waiting = static_cast<uint32_t>(number("waiting"));
      return report;
    }
    if (verb == "wave") {
      const std::string what = arguments_.contains("start") ? "start"
                               : arguments_.contains("in")  ? "in"
                                                            : "complete";
      return wire::WaveReport{.engine = EngineId{from.index},
                              .incarnation = from.incarnation,
                              .event = what == "start" ? wire::WaveEventKind::kStart
                                       : what == "in"  ? wire::WaveEventKind::kRunning
                                                       : wire::WaveEventKind::kComplete,
                              .wave = WaveId{number(what)},
                              .awaits = awaits()};
    }
    if (verb == "died") {
      return wire::RankReport{.engine = EngineId{static_cast<uint32_t>(number("rank"))},
                              .incarnation = Incarnation{number("of")},
                              .reason = "killed by signal 9 (SIGKILL)",
                              .restarts = static_cast<uint32_t>(number("restarts"))};
    }
    EXPECT_EQ(verb, "hello") << "unknown command";
    return wire::Hello{.role = from.role,
                       .index = from.index,
                       .incarnation = from.incarnation,
                       .node = text("node", "front"),
                       .pid = static_cast<uint32_t>(1000 + from.incarnation.value),
                       .config = {{"dtype", text("dtype", "bfloat16")}},
                       .epoch_seen = Epoch{number("epoch")},
                       .wave_seen = WaveId{number("wave")},
                       .launch = LaunchId{number("launch")}};
  }

  void wait(Duration time) {
    const Instant end = now_ + time;
    while (now_ < end) {
      now_ = std::clamp(state_.wakeup(), now_ + std::chrono::milliseconds(1), end);
      state_.tick(now_);
      write();
    }
  }

  void write() {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now_ - kStart).count();
    for (const Send& send : state_.take_sends()) {
      output_ += absl::StrFormat("%5d ms", ms);
      for (const wire::MemberKey& to : send.to) {
        output_ += absl::StrFormat("%s%s", &to == &send.to.front() ? " to " : ", ", text_of(to));
      }
      output_ += ": " + std::visit([](const auto& m) { return text_of(m); }, send.message) + "\n";
    }
  }

  static constexpr Instant kStart{std::chrono::seconds(100)};
  Instant now_ = kStart;
  CoordinatorState state_{
      ViewOptions{.engine_count = 2, .config = {{"dtype", "bfloat16"}}, .self = Incarnation{99}},
      kStart};
  std::map<std::string, std::string> arguments_;
  std::string output_;
};

// Blocks "commands, ----, output, empty line"; lines that begin with # stay as they are.
std::string replay(std::istream& file) {
  Transcript transcript;
  std::string result, line;
  bool is_output = false;
  while (std::getline(file, line)) {
    if (line == "----") {
      is_output = true;
      result += "----\n" + transcript.take_output() + "\n";
    } else if (line.empty()) {
      if (!is_output) result += "\n";
      is_output = false;
    } else if (!is_output) {
      result += line + "\n";
      if (line[0] != '#') transcript.run(line);
    }
  }
  return result;
}

TEST(CoordinatorTranscript, every_transcript_comes_out_as_written) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    SCOPED_TRACE(entry.path().string());
    ++files;
    std::ifstream file(entry.path());
    const std::string expected((std::istreambuf_iterator<char>(file)), {});
    std::istringstream input(expected);
    const std::string actual = replay(input);
    if (std::getenv("TRIREME_REWRITE_GOLDEN") != nullptr) {
      std::ofstream(entry.path()) << actual;
    } else {
      EXPECT_EQ(actual, expected);
    }
  }
  EXPECT_GE(files, 5);
}

}  // namespace
}  // namespace trireme::coordinator
