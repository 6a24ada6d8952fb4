// Goal: no command line crashes a worker, and what it understands can be said again.
// Method: libFuzzer; a word per line.
#include <cstdlib>

#include "tests/fuzz/words_for_fuzz.h"
#include "worker/worker_flags.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using namespace trireme::worker;
  const trireme::Words words(data, size);
  const auto arguments = words.pointers();
  const auto parsed = parse_worker_arguments(arguments);
  if (!parsed.ok()) return 0;
  std::vector<const char*> again;
  const std::vector<std::string> said = worker_arguments(parsed->flags);
  for (const std::string& word : said) again.push_back(word.c_str());
  const auto twice = parse_worker_arguments(again);
  if (!twice.ok() || twice->flags != parsed->flags) std::abort();
  return 0;
}
