#include "common/process/stack_report.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include "common/clock.h"
#include "common/log.h"

namespace trireme::process {
namespace {

namespace fs = std::filesystem;

// A file-backed part of a process that holds code.
struct Code {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  std::string file;
};

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<Code> code_of(const fs::path& process) {
  std::vector<Code> all;
  std::ifstream maps(process / "maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    Code code;
    char dash = 0;
    std::string rights, device;
    uint64_t inode = 0;
    words >> std::hex >> code.begin >> dash >> code.end >> rights >> code.offset >> device >>
        std::dec >> inode >> code.file;
    if (rights.size() > 2 && rights[2] == 'x' && inode != 0) all.push_back(std::move(code));
  }
  return all;
}

std::string name_of(uint64_t address, const std::vector<Code>& code) {
  for (const Code& part : code) {
    if (address < part.begin || address >= part.end) continue;
    return absl::StrFormat("%s+0x%x", part.file, address - part.begin + part.offset);
  }
  return "";
}

std::vector<uint64_t> read_stack(uint32_t pid, uint64_t stack_pointer) {
  std::vector<uint64_t> words(kStackWordsMax);
  const iovec local{words.data(), words.size() * sizeof(uint64_t)};
  const iovec remote{reinterpret_cast<void*>(stack_pointer), local.iov_len};
  const ssize_t bytes = ::process_vm_readv(static_cast<pid_t>(pid), &local, 1, &remote, 1, 0);
  words.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes) / sizeof(uint64_t));
  return words;
}

// "nr arg0 … arg5 sp pc", or "running", or nothing without the right to see it.
std::string describe_calls(uint32_t pid, const std::string& system_call,
                           const std::vector<Code>& code) {
  std::istringstream words(system_call);
  std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
  if (fields.size() < 2) return "";
  const auto number = [](const std::string& text) {
    return std::strtoull(text.c_str(), nullptr, 0);
  };
  std::string text;
  const std::string at = name_of(number(fields.back()), code);
  if (!at.empty()) text += "    at " + at + "\n";
  for (const uint64_t word : read_stack(pid, number(fields[fields.size() - 2]))) {
    const std::string name = name_of(word, code);
    if (!name.empty()) text += "       " + name + "\n";
  }
  return text;
}

}  // namespace

std::string describe_stacks(uint32_t pid) {
  const fs::path process = "/proc/" + std::to_string(pid);
  const std::vector<Code> code = code_of(process);
  std::string text;
  std::size_t count = 0;
  std::error_code failure;
  for (fs::directory_iterator thread(process / "task", failure), end;
       !failure && thread != end && count < kThreadsMax; thread.increment(failure), ++count) {
    const fs::path path = thread->path();
    const std::string stat = read_line(path / "stat");
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || name_end + 2 >= stat.size()) continue;
    const std::string system_call = read_line(path / "syscall");
    text += absl::StrFormat("thread %s %s: state %c, waits in %s, system call %s\n",
                            path.filename().string(), read_line(path / "comm"), stat[name_end + 2],
                            read_line(path / "wchan"), system_call);
    text += describe_calls(pid, system_call, code);
  }
  return text;
}

StatusOr<std::string> keep_stacks(uint32_t pid) {
  const std::string text = describe_stacks(pid);
  if (text.empty()) return error(StatusCode::kNotFound, "there is no process %u", pid);
  const char* const temporary = std::getenv("TMPDIR");
  const std::string path = absl::StrFormat(
      "%s/trireme-stuck-%u-%d.txt", temporary == nullptr || *temporary == '\0' ? "/tmp" : temporary,
      pid, unix_milliseconds());
  std::ofstream file(path);
  file << "process " << pid << ": " << read_line("/proc/" + std::to_string(pid) + "/comm") << '\n'
       << text;
  file.close();
  if (!file) return error(StatusCode::kUnavailable, "%s: %s", path, std::strerror(errno));
  return path;
}

std::string log_stacks(uint32_t pid) {
  const auto kept = keep_stacks(pid);
  if (kept.ok()) {
    log::warning("stacks_kept", {{"stuck_pid", pid}, {"file", *kept}});
    return *kept;
  }
  log::warning("stacks_not_kept",
               {{"stuck_pid", pid}, {"reason", std::string(kept.status().message())}});
  return {};
}

}  // namespace trireme::process
