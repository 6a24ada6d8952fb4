// Matrices whose codes lie several to a 32-bit word, with a scale and a zero for each row and group
// of columns: gptq, awq, and the packed ones of compressed-tensors. They differ in where a code
// lies.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/weights/quantized_matrix.h"
#include "worker/weights/stored_values.h"

namespace trireme::worker {

// The word and the shift of code (a, b) in a tensor: word a · a_words + b · b_words (of the packed
// one of both, its index / codes_per_word) and within it the place of the packed index.
struct CodePlace {
  StoredWords words;
  uint64_t row_stride = 0;     // Words from a row, or a word's worth of rows, to the next.
  uint64_t column_stride = 0;  // Likewise.
  bool packs_rows = false;     // A word has neighbouring rows, else columns.
  bool interleaves = false;    // In awq's order: 0, 2, 4, 6, 1, 3, 5, 7.
};

struct PackedGroups {
  std::string name;
  uint32_t row_count = 0;
  uint32_t column_count = 0;
  uint32_t bits = 4;
  uint32_t group_count = 0;
  uint32_t group_columns = 0;
  CodePlace codes;
  CodePlace zeros;        // (row, group); without words: the middle of the codes.
  uint32_t zero_add = 0;  // To a stored zero.
  StoredFloats scales;
  uint64_t scale_row_stride = 0;
  uint64_t scale_group_stride = 0;
  std::vector<uint32_t> group_of_column = {};  // Empty: column / group_columns.
};

[[nodiscard]] std::shared_ptr<const QuantizedMatrix> make_packed_groups(PackedGroups groups);

}  // namespace trireme::worker
