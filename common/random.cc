#include "common/random.h"

#include <sys/random.h>

#include "common/check.h"

namespace trireme {

uint64_t entropy64() {
  uint64_t value = 0;
  TRIREME_CHECK(getrandom(&value, sizeof(value), 0) == sizeof(value),
                "8 bytes are never cut short");
  return value;
}

}  // namespace trireme
