#include "cli/top/top_command.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cli/bench/flag_set.h"
#include "cli/bench/http_exchange.h"
#include "cli/bench/server_url.h"
#include "cli/top/diagnosis.h"
#include "cli/top/page.h"
#include "cli/top/terminal.h"
#include "common/clock.h"

namespace trireme::top {
namespace {

constexpr int kExitNotWell = 1;
constexpr int kExitWrongFlags = 2;
constexpr int kExitNoAnswer = 3;
constexpr Duration kAnswerMax = std::chrono::seconds(5);
constexpr double kIntervalMin = 0.1;
constexpr double kIntervalMax = 3600;
constexpr std::size_t kPlainRowsMax = 60;  // Where standard output is no terminal.
constexpr std::size_t kShownMax = 200;     // Of an answer that is none.

constexpr char kIntroduction[] =
    "usage: trireme top [flags]\n\n"
    "Asks a front end (GET /cluster) what every engine is at and shows who holds the cluster up:\n"
    "rank, node, process, phase, step, whom it waits for and since when. On a terminal the page\n"
    "is redrawn until Ctrl-C; elsewhere one follows the other.\n\n"
    "  trireme top                                        # the server of this machine, port 8000\n"
    "  trireme top --url http://10.0.0.1:8000 --once      # one page; for scripts by its status\n"
    "  trireme top --once --json | python3 -m json.tool   # the answer as it came\n\n"
    "Status with --once: 0 all is well, 1 something stands still or is missing. 2: wrong command\n"
    "line, 3: the server could not be asked. docs/top.md explains the columns.\n\n";

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  double interval = 1;
  bool once = false;
  bool json = false;
  bool help = false;
};

std::vector<bench::Flag> flags_of(Options& o) {
  return {
      bench::flag("url", "URL", "of any front end; default http://127.0.0.1:8000", o.url),
      bench::flag("api-key", "KEY",
                  "of a server with --api-key; better in the environment, where others cannot read "
                  "it: TRIREME_API_KEY, VLLM_API_KEY",
                  o.api_key),
      bench::flag("once", "", "one page, and a status that says whether all is well", o.once),
      bench::flag("interval", "SECONDS", "from page to page; default 1", o.interval),
      bench::flag("json", "", "the server's answer instead of the page, a line each", o.json),
      bench::flag("help", "", "this text", o.help),
  };
}

// What the flag says, else the environment. A key goes into a header's line, so it is checked
// wherever it comes from.
StatusOr<std::string> find_key(const std::string& asked) {
  std::string key = asked;
  std::string_view source = "--api-key";
  for (const char* const name : {"TRIREME_API_KEY", "VLLM_API_KEY"}) {
    const char* const value = std::getenv(name);
    if (!key.empty() || value == nullptr) continue;
    key = value;
    source = name;
  }
  for (const char c : key) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) continue;
    return error(StatusCode::kInvalidArgument, "%s: a key has no control characters", source);
  }
  return key;
}

Status check(const Options& options) {
  if (!(options.interval >= kIntervalMin && options.interval <= kIntervalMax)) {
    return error(StatusCode::kInvalidArgument, "--interval: %g is not from %g to %g seconds",
                 options.interval, kIntervalMin, kIntervalMax);
  }
  return absl::OkStatus();
}

Status explain(const Status& status, const bench::ServerUrl& url) {
  if (status.code() == StatusCode::kDeadlineExceeded) {
    return error(status.code(),
                 "%s gave no answer within %d s: the front end itself stands still or is far too "
                 "busy; see its log, or ask another one with --url",
                 url.text(), std::chrono::duration_cast<std::chrono::seconds>(kAnswerMax).count());
  }
  if (status.code() != StatusCode::kUnavailable) return status;
  return error(status.code(),
               "no server at %s (%s); is it running (trireme serve MODEL)? --url names another",
               url.text(), std::string(status.message()));
}

Status refusal(const bench::WholeReply& reply, const bench::ServerUrl& url) {
  if (reply.status == 401) {
    return error(StatusCode::kPermissionDenied,
                 "%s wants another key than the one given, or one at all: set TRIREME_API_KEY, or "
                 "--api-key",
                 url.text());
  }
  if (reply.status == 404) {
    return error(StatusCode::kNotFound,
                 "%s has no /cluster: it is another program, or an older one than this",
                 url.text());
  }
  return error(StatusCode::kUnavailable, "%s/cluster answers %d: %s", url.text(), reply.status,
               reply.body.substr(0, kShownMax));
}

// The text of a good answer.
StatusOr<std::string> ask_cluster(const bench::ServerUrl& url, const std::string& request) {
  auto reply = bench::ask(url, request, Deadline::after(kAnswerMax));
  if (!reply.ok()) return explain(reply.status(), url);
  if (reply->status != 200) return refusal(*reply, url);
  return std::move(reply->body);
}

// What was seen last, and how to show it.
class View {
 public:
  View(const bench::ServerUrl& url, bool is_json) : where_(url.text()), is_json_(is_json) {}

  // The error: not what it should be.
  [[nodiscard]] Status take(std::string json) {
    TRIREME_ASSIGN_OR_RETURN(cluster_, read_cluster(json));
    json_ = std::move(json);
    diagnosis_ = diagnose(cluster_);
    return absl::OkStatus();
  }
  [[nodiscard]] bool is_well() const { return diagnosis_.is_well(); }
  [[nodiscard]] std::string text(PageSize size) const {
    return is_json_ ? json_ + "\n" : page_text(cluster_, diagnosis_, where_, size);
  }

 private:
  const std::string where_;
  const bool is_json_;
  std::string json_;
  ClusterFacts cluster_;
  Diagnosis diagnosis_;
};

PageSize plain_size() {
  const PageSize terminal = Terminal::is_there() ? Terminal::size() : PageSize{};
  return {.columns = terminal.columns, .rows = kPlainRowsMax};
}

// `trouble`: why what is shown is old; empty: it is not.
void show(const View& view, const std::string& trouble, Terminal* terminal) {
  if (terminal != nullptr) {
    PageSize size = Terminal::size();
    if (trouble.empty()) return terminal->draw(view.text(size));
    if (size.rows > 1) --size.rows;
    const std::size_t columns = size.columns > 0 ? size.columns : trouble.size();
    return terminal->draw(trouble.substr(0, columns) + "\n" + view.text(size));
  }
  if (trouble.empty()) {
    std::fputs(view.text(plain_size()).c_str(), stdout);
    std::fflush(stdout);
  } else {
    std::fprintf(stderr, "%s\n", trouble.c_str());
  }
}

// Until a signal ends the process. A server that goes away may come back: the page stays, with what
// is wrong above it.
[[noreturn]] void follow(const bench::ServerUrl& url, const std::string& request, View& view,
                         const Options& options) {
  std::optional<Terminal> terminal;
  if (Terminal::is_there() && !options.json) terminal.emplace();
  const auto interval =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.interval));
  std::string trouble;
  Instant next = now();
  while (true) {
    show(view, trouble, terminal ? &*terminal : nullptr);
    next = std::max(next + interval, now());
    std::this_thread::sleep_until(next);
    auto answer = ask_cluster(url, request);
    const Status status = answer.ok() ? view.take(*std::move(answer)) : answer.status();
    trouble = status.ok() ? "" : "OLD: " + std::string(status.message());
  }
}

int refuse(const Status& why, int code) {
  std::fprintf(stderr, "trireme top: %s%s\n", std::string(why.message()).c_str(),
               code == kExitWrongFlags ? "; see trireme top --help" : "");
  return code;
}

int run(const Options& options) {
  const auto url = bench::parse_server_url(options.url);
  if (!url.ok()) return refuse(annotate(url.status(), "--url"), kExitWrongFlags);
  const auto key = find_key(options.api_key);
  if (!key.ok()) return refuse(key.status(), kExitWrongFlags);
  bench::Headers headers;
  if (!key->empty()) headers.emplace_back("Authorization", "Bearer " + *key);
  const std::string request = bench::request_text(*url, "GET", "/cluster", headers, "");
  View view(*url, options.json);
  auto answer = ask_cluster(*url, request);
  const Status status = answer.ok() ? view.take(*std::move(answer)) : answer.status();
  if (!status.ok()) return refuse(status, kExitNoAnswer);
  if (!options.once) follow(*url, request, view, options);
  std::fputs(view.text(plain_size()).c_str(), stdout);
  return view.is_well() ? 0 : kExitNotWell;
}

}  // namespace

int run_top(std::span<char* const> arguments) {
  Options options;
  const std::vector<bench::Flag> flags = flags_of(options);
  const Status parsed = bench::parse_flags(flags, {arguments.data(), arguments.size()}, nullptr);
  if (!parsed.ok()) return refuse(parsed, kExitWrongFlags);
  if (options.help) {
    std::printf("%s%s", kIntroduction, bench::flags_help(flags).c_str());
    return 0;
  }
  const Status checked = check(options);
  return checked.ok() ? run(options) : refuse(checked, kExitWrongFlags);
}

}  // namespace trireme::top
