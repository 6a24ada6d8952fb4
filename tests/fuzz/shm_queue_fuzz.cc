// Goal: whatever lies in shared memory, attaching, receiving and sending end in a Status.
// Method: the input is the content of a sealed memfd.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "common/shm/shm_queue.h"

namespace trireme::shm {
namespace {

constexpr int kRecords = 8;

int make_sealed_memory(const uint8_t* data, std::size_t size) {
  const int fd = ::memfd_create("shm_queue_fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return fd;
}

void use(const QueueMemory& memory) {
  const Deadline at_once{Instant{}};
  ShmReceiver receiver(memory, 0, Duration::zero());
  for (int i = 0; i < kRecords && receiver.receive(at_once).ok(); ++i) receiver.release();
  ShmSender sender(memory, 0, Duration::zero());
  const std::byte record[200] = {};
  for (int i = 0; i < kRecords && sender.send(record, at_once).ok(); ++i) {
  }
  if (memory.shape().reader_count != 1) return;
  ShmCollector collector(memory, Duration::zero());
  for (int i = 0; i < kRecords && collector.receive(at_once).ok(); ++i) collector.release();
}

}  // namespace
}  // namespace trireme::shm

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  using namespace trireme;
  const auto memory = shm::QueueMemory::attach(UniqueFd(shm::make_sealed_memory(data, size)));
  if (memory.ok()) shm::use(*memory);
  return 0;
}
