#include "worker/kernels/cuda/elementwise.h"

#include "worker/kernels/cuda/numbers.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kThreadsMax = 256;

// What a kernel does to the columns of one place; `row` is where they belong.
struct Add {
  View delta;
  __device__ Columns operator()(Columns x, uint32_t row, uint32_t column) const {
    const Columns y = load_columns(row_of(delta, row), column, delta.column_count);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) x.at[i] += y.at[i];
    return x;
  }
};

struct Scale {
  float factor;
  __device__ Columns operator()(Columns x, uint32_t, uint32_t) const {
    for (float& value : x.at) value *= factor;
    return x;
  }
};

struct SoftCap {
  float cap;
  __device__ Columns operator()(Columns x, uint32_t, uint32_t) const {
    for (float& value : x.at) value = cap * tanhf(value / cap);
    return x;
  }
};

struct Silu {
  __device__ float operator()(float x) const { return x / (1.0F + expf(-x)); }
};

struct Gelu {
  __device__ float operator()(float x) const {
    constexpr float kRootOfHalf = 0.70710678F;
    return 0.5F * x * erfcf(-x * kRootOfHalf);
  }
};

struct GeluTanh {
  __device__ float operator()(float x) const {
    constexpr float kRootOfTwoOverPi = 0.79788456F;
    constexpr float kCubic = 0.044715F;
    return 0.5F * x * (1.0F + tanhf(kRootOfTwoOverPi * (x + kCubic * x * x * x)));
  }
};

template <typename Curve>
struct Activate {
  __device__ Columns operator()(Columns x, uint32_t, uint32_t) const {
    for (float& value : x.at) value = Curve{}(value);
    return x;
  }
};

template <typename Curve>
struct ActivateAndMultiply {
  View up;
  __device__ Columns operator()(Columns gate, uint32_t row, uint32_t column) const {
    const Columns factors = load_columns(row_of(up, row), column, up.column_count);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) gate.at[i] = Curve{}(gate.at[i]) * factors.at[i];
    return gate;
  }
};

// to = change(from): a block takes some columns of every gridDim.y-th row.
template <typename Change>
__global__ void __launch_bounds__(kThreadsMax) map(View from, View to, Change change) {
  const uint32_t column = (blockIdx.x * blockDim.x + threadIdx.x) * kColumnsAtOnce;
  if (column >= to.column_count) return;
  for (uint32_t row = blockIdx.y; row < to.row_count; row += gridDim.y) {
    const Columns x = load_columns(row_of(from, row), column, to.column_count);
    store_columns(change(x, row, column), row_of(to, row), column, to.column_count);
  }
}

template <typename Change>
void launch_map(const View& from, const View& to, const Change& change, Queue& queue) {
  const uint32_t packs = divided_up(to.column_count, kColumnsAtOnce);
  const uint32_t threads = min(divided_up(packs, kWarp) * kWarp, kThreadsMax);
  const uint32_t rows = min(to.row_count, kGridRowsMax);
  if (packs == 0) return;
  launch(map<Change>, dim3{divided_up(packs, threads), rows}, dim3{threads}, 0, queue, from, to,
         change);
}

// Calls body with the activation's formula.
template <typename Body>
void with_curve_of(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kGelu:
      return body(Gelu{});
    case Activation::kGeluTanh:
      return body(GeluTanh{});
    case Activation::kSilu:
      break;
  }
  body(Silu{});
}

}  // namespace

void add(const View& x, const View& delta, Queue& queue) { launch_map(x, x, Add{delta}, queue); }

void scale(const View& x, float factor, Queue& queue) { launch_map(x, x, Scale{factor}, queue); }

void soft_cap(float cap, const View& x, Queue& queue) { launch_map(x, x, SoftCap{cap}, queue); }

void activate(Activation activation, const View& x, Queue& queue) {
  with_curve_of(activation,
                [&](auto curve) { launch_map(x, x, Activate<decltype(curve)>{}, queue); });
}

void activate_and_multiply(Activation activation, const View& gate_up, const View& out,
                           Queue& queue) {
  const uint32_t columns = out.column_count;
  with_curve_of(activation, [&](auto curve) {
    launch_map(gate_up.columns(0, columns), out,
               ActivateAndMultiply<decltype(curve)>{gate_up.columns(columns, columns)}, queue);
  });
}

}  // namespace trireme::worker::cuda
