// DeviceFactory: what makes a worker's device, and knows the memory where its weights and KV go.
// The programs `worker` and `worker-cuda` differ by theirs alone.
//
//   open()    once, first of all: which part of the machine, and what of the flags it cannot do
//   memory()  what is free there now: before the weights are loaded, and again after
//   make()    a device for each model (the main one, a draft model)
//
// Threads: the one that loads.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "common/options/local_workers.h"
#include "common/options/serve_options.h"
#include "common/status.h"
#include "worker/device.h"

namespace trireme::worker {

class Collective;
class ExpertExchange;
class ThreadPool;

namespace cpu {
class HostArena;
enum class OnLoad : uint8_t;
}  // namespace cpu

// Of one model; what it points to outlives the device.
struct DeviceRequest {
  Element element;  // What matrices are computed in.
  cpu::OnLoad on_load;
  std::string_view cpu_kernels;
  Collective& tensor_parallel;
  ThreadPool& pool;
  cpu::HostArena* weights;   // Null: in memory of the device's own.
  ExpertExchange* experts;   // Null: it has no others.
  uint32_t workers_of_node;  // That have as much KV memory each.
};

struct DeviceMemory {
  uint64_t available_bytes = 0;
  bool is_own = false;        // This worker's alone; else the workers of the node share it.
  bool keeps_float8 = false;  // A weight of float8 takes a byte there; else it is decoded.
};

class DeviceFactory {
 public:
  virtual ~DeviceFactory() = default;

  // For this worker among those of its node. Says in the log what it will compute with.
  [[nodiscard]] virtual Status open(const ServeOptions& options, const LocalWorkers& workers) = 0;
  [[nodiscard]] virtual StatusOr<DeviceMemory> memory() const = 0;
  [[nodiscard]] virtual StatusOr<std::unique_ptr<Device>> make(
      const DeviceRequest& request) const = 0;

 protected:
  DeviceFactory() = default;
  DeviceFactory(const DeviceFactory&) = delete;
  DeviceFactory& operator=(const DeviceFactory&) = delete;
};

}  // namespace trireme::worker
