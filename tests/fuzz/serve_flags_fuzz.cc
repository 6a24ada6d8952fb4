// Goal: no command line and no --config file crashes the programs; what is refused has a reason.
// Method: libFuzzer; the first byte chooses: a word per line, or the file's text.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "common/options/serve_flags.h"
#include "common/unique_fd.h"
#include "tests/fuzz/words_for_fuzz.h"

namespace {

void check(std::span<const char* const> arguments) {
  std::vector<std::string> notices;
  const auto options = trireme::parse_serve_flags(arguments, &notices);
  if (!options.ok() && options.status().message().empty()) std::abort();
  (void)trireme::without_flag(arguments, "api-key");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool is_file = data[0] == 'f';
  if (!is_file) {
    const trireme::Words words(data + 1, size - 1);
    check(words.pointers());
    return 0;
  }
  const trireme::UniqueFd fd(::memfd_create("config.yaml", 0));
  if (::write(fd.get(), data + 1, size - 1) != static_cast<ssize_t>(size - 1)) return 0;
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const char* const arguments[] = {"--config", path.c_str()};
  check(arguments);
  return 0;
}
