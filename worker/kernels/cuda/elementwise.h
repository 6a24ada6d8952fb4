// Operators that treat each value by itself, in fp32; rows may lie anywhere (View::row_stride).
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

void add(const View& x, const View& delta, Queue& queue);  // x += delta
void scale(const View& x, float factor, Queue& queue);     // x *= factor
void activate(Activation activation, const View& x, Queue& queue);
// out = activation(gate) · up with gate_up = [gate | up], each as wide as out.
void activate_and_multiply(Activation activation, const View& gate_up, const View& out,
                           Queue& queue);
// x = cap · tanh(x / cap)
void soft_cap(float cap, const View& x, Queue& queue);

}  // namespace trireme::worker::cuda
