#include "cli/bench/local_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include "cli/bench/progress.h"
#include "common/process/sibling_binary.h"

namespace trireme::bench {
namespace {

constexpr Duration kStopMax = std::chrono::seconds(30);
constexpr int kPollMilliseconds = 200;
constexpr std::string_view kReadyWord = "ready after ";
constexpr std::string_view kUrlWord = "http://";

struct Log {
  UniqueFd fd;
  std::string path;
};

StatusOr<Log> make_log() {
  const char* const folder = std::getenv("TMPDIR");
  std::string path = absl::StrFormat("%s/trireme-bench-XXXXXX",
                                     folder != nullptr && *folder != '\0' ? folder : "/tmp");
  UniqueFd fd(::mkostemp(path.data(), O_CLOEXEC));
  if (fd.get() < 0) {
    return error(StatusCode::kInternal, "cannot make %s: %s", path, std::strerror(errno));
  }
  return Log{.fd = std::move(fd), .path = std::move(path)};
}

// The reason of the last event that has one: what the server's last word was.
std::string last_reason(const std::string& path) {
  constexpr std::string_view kKey = "\"reason\":\"";
  std::ifstream file(path);
  std::string reason;
  for (std::string line; std::getline(file, line);) {
    const std::size_t at = line.find(kKey);
    if (at == line.npos || line.find("\"level\":\"error\"") == line.npos) continue;
    const std::size_t begin = at + kKey.size();
    std::size_t end = begin;
    while (end < line.size() && line[end] != '"') end += line[end] == '\\' ? 2 : 1;
    reason = line.substr(begin, end - begin);
  }
  return reason;
}

}  // namespace

LocalServer::LocalServer(process::ChildProcess child, UniqueFd output, std::string log_path)
    : child_(std::move(child)), output_(std::move(output)), log_path_(std::move(log_path)) {}

StatusOr<LocalServer> LocalServer::start(Words flags, bool is_quiet, StopSignal& stop) {
  TRIREME_ASSIGN_OR_RETURN(std::string program, process::find_sibling_binary("api-server"));
  TRIREME_ASSIGN_OR_RETURN(Log log, make_log());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return error(StatusCode::kInternal, "pipe: %s", std::strerror(errno));
  }
  UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  process::ChildOptions child{.argv = {std::move(program)}};
  child.argv.insert(child.argv.end(), flags.begin(), flags.end());
  for (const char* const word : {"--host", "127.0.0.1", "--port", "0", "--disable-log-stats"}) {
    child.argv.emplace_back(word);
  }
  child.stdout_fd = input.get();
  child.stderr_fd = log.fd.get();
  TRIREME_ASSIGN_OR_RETURN(process::ChildProcess started, process::ChildProcess::spawn(child));
  input.reset();  // So that its death ends the output.
  LocalServer server(std::move(started), std::move(output), std::move(log.path));
  ::fcntl(server.output_.get(), F_SETFL, O_NONBLOCK);
  TRIREME_RETURN_IF_ERROR(server.wait_ready(is_quiet, stop));
  return server;
}

LocalServer::~LocalServer() {
  if (is_running_ && !log_path_.empty()) (void)stop();
}

Status LocalServer::wait_ready(bool is_quiet, StopSignal& stop) {
  Progress progress("starting the server", 0, !is_quiet);
  bool has_ended = false;
  while (!take_output(has_ended)) {
    if (has_ended) return death("before it was ready");
    if (stop.update() != StopSignal::Level::kRun) {
      return error(StatusCode::kCancelled, "interrupted while the server started");
    }
    progress.update(0, stage_, now());
    std::array<pollfd, 2> entries = {pollfd{output_.get(), POLLIN, 0},
                                     pollfd{stop.fd(), POLLIN, 0}};
    ::poll(entries.data(), entries.size(), kPollMilliseconds);
  }
  return absl::OkStatus();
}

bool LocalServer::take_output(bool& has_ended) {
  std::array<char, 4096> bytes;
  while (true) {
    const ssize_t size = ::read(output_.get(), bytes.data(), bytes.size());
    if (size == 0) has_ended = true;
    if (size <= 0) break;
    lines_.append(bytes.data(), static_cast<std::size_t>(size));
  }
  for (std::size_t end; (end = lines_.find('\n')) != lines_.npos; lines_.erase(0, end + 1)) {
    const std::string line = lines_.substr(0, end);
    if (!line.empty()) stage_ = line;
    if (!line.starts_with(kReadyWord)) continue;
    const auto url = parse_server_url(line.substr(line.find(kUrlWord)));
    if (!url.ok()) continue;
    url_ = *url;
    return true;
  }
  return false;
}

Status LocalServer::death(const std::string& when) {
  const auto exit = child_.wait(Deadline::after(kStopMax));
  is_running_ = false;
  if (const std::string reason = last_reason(log_path_); !reason.empty()) {
    ::unlink(log_path_.c_str());
    return error(StatusCode::kAborted, "the server ended %s: %s", when, reason);
  }
  return error(StatusCode::kAborted, "the server ended %s: %s (its log: %s)", when,
               exit.ok() ? exit->text() : std::string(exit.status().message()), log_path_);
}

Status LocalServer::annotate_death(const Status& status) {
  if (status.ok() || !child_.poll_exit()) return status;
  return death("under way");
}

Status LocalServer::stop() {
  is_running_ = false;
  const process::ExitStatus exit = child_.stop(Deadline::after(kStopMax));
  if (exit.is_success()) {
    ::unlink(log_path_.c_str());
    return absl::OkStatus();
  }
  return error(StatusCode::kAborted, "the server did not end cleanly: %s (its log: %s)",
               exit.text(), log_path_);
}

}  // namespace trireme::bench
