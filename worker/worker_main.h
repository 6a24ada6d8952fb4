// main() of a worker program: everything but the device, which its factory makes.
#pragma once

#include <string_view>

#include "worker/device_factory.h"

namespace trireme::worker {

// The exit code. `program` is its name, in --help and --version; in the log every worker is one.
[[nodiscard]] int worker_main(std::string_view program, int argc, const char* const* argv,
                              DeviceFactory& factory);

}  // namespace trireme::worker
