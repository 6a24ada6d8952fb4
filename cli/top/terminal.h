// Terminal: a page that is redrawn in place on standard output, and a terminal that is left as it
// was found, also by Ctrl-C.
//
// While one lives the alternate screen is shown and the cursor hidden; its destructor, SIGINT,
// SIGTERM and SIGHUP bring both back, and the signal then ends the process as it would have.
// Threads: one owner, one at a time in a process.
#pragma once

#include <string_view>

#include "cli/top/page.h"

namespace trireme::top {

class Terminal {
 public:
  // Is standard output one?
  [[nodiscard]] static bool is_there();
  // Of standard output, as it is now; no bounds where it is none, or does not say.
  [[nodiscard]] static PageSize size();

  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void draw(std::string_view page);
};

}  // namespace trireme::top
