#include "worker/kernels/cpu/vector_table_body.h"

namespace trireme::worker::cpu {
namespace {

constexpr KernelTable kTable = vector_kernels<12>("avx512");

}  // namespace

const KernelTable& avx512_kernels() { return kTable; }

}  // namespace trireme::worker::cpu
