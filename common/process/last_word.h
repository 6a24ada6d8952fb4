// The last word of a process: why it ended, told once, by the outermost process that ends with it.
//
//   int main(...) { return process::end_with(run(...)); }
//
// A process whose parent is a Supervisor (TRIREME_SUPERVISED) does not print the reason: it writes
// one marked line, which the Supervisor takes out of its standard error and gives to its owner with
// the death. So the reason of a worker's failure climbs to the user's terminal as one message. Any
// other process prints it: on a terminal as "api-server: <message>", else as a line of the log,
//   {..."level":"error","event":"failed","reason":"<message>"}
// Threads: any; pure but for end_with().
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::process {

inline constexpr const char* kSupervisedVariable = "TRIREME_SUPERVISED";

// Says why, if there is anything to say; the exit code of main().
[[nodiscard]] int end_with(const Status& status);

// One line, marked, without its end. Newlines in the message become spaces.
[[nodiscard]] std::string marked_line(const Status& status);
// The status of a marked line; nothing if it is another line.
[[nodiscard]] std::optional<Status> read_marked_line(std::string_view line);

// Of a child, its own worker included: what was said first is kept if the later does not repeat it.
[[nodiscard]] Status join_last_words(const Status& earlier, const Status& later);

// Starting again with the same files and flags must fail again: it is for a person to mend.
[[nodiscard]] bool is_for_a_person(StatusCode code);

}  // namespace trireme::process
