#include "common/process/sibling_binary.h"

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

namespace trireme::process {

StatusOr<std::string> find_sibling_binary(std::string_view name) {
  char self[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self));
  if (length <= 0) {
    return error(StatusCode::kInternal, "read /proc/self/exe: %s", std::strerror(errno));
  }
  std::string folder(self, static_cast<std::size_t>(length));
  folder.resize(folder.rfind('/'));
  const std::string beside = absl::StrFormat("%s/%s", folder, name);
  if (::access(beside.c_str(), X_OK) == 0) return beside;
  const std::string in_bin = absl::StrFormat("%s/../bin/%s", folder, name);
  if (::access(in_bin.c_str(), X_OK) == 0) return in_bin;
  return error(StatusCode::kNotFound, "no program '%s': neither %s nor %s can be executed", name,
               beside, in_bin);
}

Status become_sibling_binary(std::string_view name, std::span<const char* const> arguments) {
  TRIREME_ASSIGN_OR_RETURN(std::string program, find_sibling_binary(name));
  std::vector<char*> argv = {program.data()};
  // execv() takes them without const and does not change them.
  for (const char* const argument : arguments) argv.push_back(const_cast<char*>(argument));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return error(StatusCode::kInternal, "%s: %s", program, std::strerror(errno));
}

}  // namespace trireme::process
