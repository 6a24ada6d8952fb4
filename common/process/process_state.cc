#include "common/process/process_state.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace trireme::process {

std::optional<ProcessState> read_process_state(uint32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  return parse_process_state(text);
}

bool is_traced(uint32_t pid) {
  constexpr std::string_view kField = "TracerPid:";
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kField)) return std::atoi(line.c_str() + kField.size()) != 0;
  }
  return false;
}

std::optional<ProcessState> parse_process_state(std::string_view stat) {
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  std::istringstream fields{std::string(stat.substr(name_end + 1))};
  ProcessState state;
  fields >> state.letter;
  constexpr int kBetween = 10;  // ppid to cmajflt.
  std::string skipped;
  for (int i = 0; i < kBetween; ++i) fields >> skipped;
  uint64_t user = 0;
  uint64_t system = 0;
  if (!(fields >> user >> system)) return std::nullopt;
  state.cpu_ticks = user + system;
  return state;
}

}  // namespace trireme::process
