// How the columns of a matrix of codes become groups that a kernel can run.
//
// A kernel wants whole groups of 32, 64 or 128 columns that share a scale in each row. A checkpoint
// may have larger ones (they are cut, each piece with a copy of the scale), columns in another
// order than its groups (act-order: the columns of x are gathered), or a slice that begins within a
// group (padded with zeros).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/device.h"

namespace trireme::worker {

struct ColumnGroups {
  uint32_t group_columns = 0;
  uint32_t group_count = 0;
  bool is_symmetric = true;  // No zeros but the middle of the codes.
  // Column i of the kernel is this one of the source, a negative one zero; empty: the i-th.
  std::vector<int32_t> column_order = {};  // [column_count()]
  // Of a checkpoint, for each group; empty: made on load.
  std::vector<uint32_t> source_groups = {};

  [[nodiscard]] uint32_t column_count() const { return group_columns * group_count; }
  [[nodiscard]] bool is_of_checkpoint() const { return !source_groups.empty(); }
  // Of the source, for column i of the kernel; negative: padding.
  [[nodiscard]] int32_t column(uint32_t i) const {
    if (!column_order.empty()) return column_order[i];
    return i < in_features ? static_cast<int32_t>(i) : -1;
  }
  uint32_t in_features = 0;

  // kUnimplemented naming two parts that group their columns in different ways.
  [[nodiscard]] static StatusOr<ColumnGroups> of(const LinearSource& source);
};

}  // namespace trireme::worker
