// worker: one rank's share of an engine's model, on the CPU; started by engine-core (see
// worker_flags.h).
#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/worker_main.h"

int main(int argc, char** argv) {
  trireme::worker::cpu::CpuFactory factory;
  return trireme::worker::worker_main("worker", argc, argv, factory);
}
