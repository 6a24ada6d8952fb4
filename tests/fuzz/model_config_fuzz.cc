// Goal: no config.json crashes the worker that reads it. Method: libFuzzer on the text.
#include <cstdint>
#include <string_view>

#include "worker/weights/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  (void)trireme::worker::parse_model_config({reinterpret_cast<const char*>(data), size},
                                            "config.json");
  return 0;
}
