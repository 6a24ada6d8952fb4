#include "worker/kernels/cuda/table_rows.h"

#include "worker/kernels/cuda/numbers.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kThreads = 128;

// One block for each row of the output. `Value`: of the table; `kAdds`: to what is there.
template <typename Value, bool kAdds>
__global__ void take_rows(TableRows table, const int32_t* rows, View out) {
  float* const to = row_of(out, blockIdx.x);
  const auto index = static_cast<uint32_t>(rows[blockIdx.x]);
  const bool is_there = index < table.row_count;
  const Value* const from =
      static_cast<const Value*>(table.data) + std::size_t{index} * table.row_stride;
  for (uint32_t column = threadIdx.x * kColumnsAtOnce; column < out.column_count;
       column += kThreads * kColumnsAtOnce) {
    Columns values{};
    if (is_there) values = load_columns(from, column, out.column_count);
    if (kAdds) {
      const Columns before = load_columns(to, column, out.column_count);
      for (uint32_t i = 0; i < kColumnsAtOnce; ++i) values.at[i] = before.at[i] + values.at[i];
    }
    store_columns(values, to, column, out.column_count);
  }
}

template <bool kAdds>
void launch_take_rows(const TableRows& table, const int32_t* rows, const View& out, Queue& queue) {
  with_type_of(table.element, [&](auto zero) {
    launch(take_rows<decltype(zero), kAdds>, dim3{out.row_count}, dim3{kThreads}, 0, queue, table,
           rows, out);
  });
}

__global__ void gather(View x, const uint32_t* rows, View out) {
  const float* const from = row_of(x, rows[blockIdx.x]);
  for (uint32_t column = threadIdx.x * kColumnsAtOnce; column < out.column_count;
       column += kThreads * kColumnsAtOnce) {
    store_columns(load_columns(from, column, out.column_count), row_of(out, blockIdx.x), column,
                  out.column_count);
  }
}

}  // namespace

void embed(const TableRows& table, const int32_t* rows, const View& out, Queue& queue) {
  launch_take_rows<false>(table, rows, out, queue);
}

void add_table_rows(const TableRows& table, const int32_t* rows, const View& x, Queue& queue) {
  launch_take_rows<true>(table, rows, x, queue);
}

void gather_rows(const View& x, const uint32_t* rows, const View& out, Queue& queue) {
  launch(gather, dim3{out.row_count}, dim3{kThreads}, 0, queue, x, rows, out);
}

}  // namespace trireme::worker::cuda
