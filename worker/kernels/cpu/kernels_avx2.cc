#include "worker/kernels/cpu/vector_table_body.h"

namespace trireme::worker::cpu {
namespace {

constexpr KernelTable kTable = vector_kernels<3>("avx2");

}  // namespace

const KernelTable& avx2_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
