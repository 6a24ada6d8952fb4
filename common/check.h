// TRIREME_CHECK: an invariant whose failure means our own code is wrong. Stays on in release
// builds: a wrong answer costs more than a restart, and the supervisor restarts a process in
// seconds. Never use it on anything a peer, a user or the OS can cause: those return a Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define TRIREME_CHECK(condition, what)                                                             \
  do {                                                                                             \
    if (!(condition)) [[unlikely]] {                                                               \
      std::fprintf(stderr, "CHECK failed %s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, what); \
      std::abort();                                                                                \
    }                                                                                              \
  } while (false)
