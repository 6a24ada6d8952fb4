// Goal: a lying safetensors file is refused and never read outside its bytes.
// Method: libFuzzer; the bytes become a file in memory, and every tensor that opens is read whole.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "worker/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const int fd = memfd_create("fuzz.safetensors", 0);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) return 0;
  const auto opened =
      trireme::worker::Safetensors::open_file("/proc/self/fd/" + std::to_string(fd));
  if (opened.ok()) {
    volatile uint8_t sum = 0;
    for (const auto& tensor : opened->tensors()) {
      for (const std::byte byte : tensor.bytes) sum = sum + static_cast<uint8_t>(byte);
    }
  }
  close(fd);
  return 0;
}
