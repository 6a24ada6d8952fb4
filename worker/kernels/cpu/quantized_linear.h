// Matrices as int8 and int4 codes: from a checkpoint that has such codes, bit by bit, or made on
// load from wider numbers (quantize.h).
#pragma once

#include <memory>

#include "worker/device.h"
#include "worker/kernels/cpu/host_memory.h"
#include "worker/kernels/cpu/packed_linear.h"
#include "worker/kernels/quantize.h"
#include "worker/thread_pool.h"

namespace trireme::worker::cpu {

// What matrices become that are not to keep their precision.
enum class OnLoad : uint8_t { kKeep, kInt8, kInt4 };

// The form of a layer: that of its parts where they are quantised alike. Parts that are not are
// decoded, to `element`.
[[nodiscard]] MatrixForm form_of(const LinearSource& source, Element element, OnLoad on_load);

// kInvalidArgument naming the layer when its sums could leave int32. Biases are values of
// `element`.
[[nodiscard]] StatusOr<std::unique_ptr<PackedLinear>> pack_int8(const LinearSource& source,
                                                                Element element, ThreadPool& pool,
                                                                HostArena& memory);
// error_of: of the kernels in use. kUnimplemented naming two layers that are stacked and group
// their columns in different ways.
[[nodiscard]] StatusOr<std::unique_ptr<PackedLinear>> pack_int4(const LinearSource& source,
                                                                Element element, Int4Error error_of,
                                                                ThreadPool& pool,
                                                                HostArena& memory);

}  // namespace trireme::worker::cpu
