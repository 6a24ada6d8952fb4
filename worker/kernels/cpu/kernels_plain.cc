#include "worker/kernels/cpu/vector_table_body.h"

namespace trireme::worker::cpu {
namespace {

constexpr KernelTable kTable = vector_kernels<2>("plain");

}  // namespace

const KernelTable& plain_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
