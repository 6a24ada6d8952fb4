#include "worker/kernels/column_groups.h"

#include <algorithm>
#include <numeric>

#include "worker/weights/quantized_matrix.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kSizes[] = {128, 64, 32};  // The last one where none divides.

uint32_t group_size_for(const std::vector<uint32_t>& runs) {
  for (const uint32_t size : kSizes) {
    if (std::ranges::all_of(runs, [&](uint32_t run) { return run % size == 0; })) return size;
  }
  return kSizes[std::size(kSizes) - 1];
}

std::vector<uint32_t> groups_of_columns(const MatrixSlice& part) {
  std::vector<uint32_t> groups(part.column_count);
  for (uint32_t i = 0; i < part.column_count; ++i) {
    groups[i] = part.quantized->group_of(part.column_begin + i);
  }
  return groups;
}

Status check_same_groups(const LinearSource& source, const std::vector<uint32_t>& groups) {
  for (const MatrixSlice& part : source.parts) {
    if (groups_of_columns(part) == groups) continue;
    return error(StatusCode::kUnimplemented,
                 "%s and %s are computed as one but group their columns in different ways (g_idx)",
                 source.parts.front().quantized->name(), part.quantized->name());
  }
  return absl::OkStatus();
}

bool counts_up(const std::vector<int32_t>& order, uint32_t in_features) {
  for (uint32_t i = 0; i < order.size(); ++i) {
    if (order[i] != (i < in_features ? static_cast<int32_t>(i) : -1)) return false;
  }
  return true;
}

}  // namespace

StatusOr<ColumnGroups> ColumnGroups::of(const LinearSource& source) {
  const MatrixSlice& first = source.parts.front();
  ColumnGroups made{.in_features = first.column_count};
  if (first.quantized == nullptr) {
    made.group_columns = group_size_for({made.in_features});
    made.group_count = (made.in_features + made.group_columns - 1) / made.group_columns;
    return made;
  }
  const std::vector<uint32_t> groups = groups_of_columns(first);
  TRIREME_RETURN_IF_ERROR(check_same_groups(source, groups));
  made.is_symmetric = std::ranges::all_of(
      source.parts, [](const MatrixSlice& part) { return part.quantized->is_symmetric(); });
  std::vector<int32_t> columns(made.in_features);
  std::iota(columns.begin(), columns.end(), 0);
  const auto group_of = [&](int32_t column) { return groups[static_cast<uint32_t>(column)]; };
  std::ranges::stable_sort(columns, {}, group_of);
  std::vector<uint32_t> runs;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i == 0 || group_of(columns[i]) != group_of(columns[i - 1])) runs.push_back(0);
    ++runs.back();
  }
  made.group_columns = group_size_for(runs);
  std::size_t at = 0;
  for (const uint32_t run : runs) {
    const uint32_t pieces = (run + made.group_columns - 1) / made.group_columns;
    made.source_groups.insert(made.source_groups.end(), pieces, group_of(columns[at]));
    made.column_order.insert(made.column_order.end(),
                             columns.begin() + static_cast<std::ptrdiff_t>(at),
                             columns.begin() + static_cast<std::ptrdiff_t>(at + run));
    at += run;
    made.group_count += pieces;
    made.column_order.resize(made.column_count(), -1);
  }
  if (counts_up(made.column_order, made.in_features)) made.column_order.clear();
  return made;
}

}  // namespace trireme::worker
