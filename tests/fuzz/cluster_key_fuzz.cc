// Goal: no text that a person pastes as a cluster key crashes us, and a good key keeps its text.
#include <cstdint>
#include <cstdlib>

#include "common/zmq/cluster_key.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using trireme::zmq::ClusterKey;
  const auto key = ClusterKey::parse({reinterpret_cast<const char*>(data), size});
  if (!key.ok()) return 0;
  const auto again = ClusterKey::parse(key->text());
  if (!again.ok() || again->text() != key->text()) std::abort();
  return 0;
}
