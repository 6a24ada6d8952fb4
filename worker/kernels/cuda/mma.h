// The registers of a warp's matrix product on tensor cores, D = A · B + C with A of 16 x 16, B of
// 16 x 8 and C of 16 x 8 numbers. What a lane holds of each is said in the PTX manual ("Matrix
// fragments for mma.m16n8k16"); with g = lane / 4 and t = lane % 4:
//
//   A  word i: row g + 8 · (i % 2), columns 2t + 8 · (i / 2) and the next
//   B  word i: rows 2t + 8 · i and the next, column g
//   C  value i: row g + 8 · (i / 2), column 2t + i % 2
//
// A word is two neighbouring numbers, the first one in its low half. Sums are fp32; in what order
// the 16 products of a step are added is the hardware's, and the same for every element.
//
// Of int8 codes a word has four, so that the same words are 32 columns of A and rows of B
// ("m16n8k32"); their sums are exact in int32.
#pragma once

#include <cstdint>

namespace trireme::worker::cuda {

struct MmaA {
  uint32_t words[4];
};
struct MmaB {
  uint32_t words[2];
};
struct MmaC {
  float values[4];
};
struct MmaCodeSums {
  int32_t values[4];
};

}  // namespace trireme::worker::cuda
