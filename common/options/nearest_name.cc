#include "common/options/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace trireme {
namespace {

// Levenshtein's.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(3, name.size() / 3);
  for (const std::string_view candidate : known) {
    const std::size_t distance = std::min(
        edit_distance(name, candidate), edit_distance(name, candidate.substr(0, name.size())) + 1);
    if (distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

}  // namespace trireme
