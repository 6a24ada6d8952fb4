// Goal: each CPU computes with the fastest set of instructions that it has all of, one that lacks
// AVX2 with plain ones, and people are told so.
#include "worker/kernels/cpu/kernel_choice.h"

#include <gtest/gtest.h>

#include <string>

namespace trireme::worker::cpu {
namespace {

std::vector<std::string> names_for(const CpuFeatures& features) {
  std::vector<std::string> names;
  for (const KernelTable* table : kernels_for(features)) names.emplace_back(table->name);
  return names;
}

using Names = std::vector<std::string>;

TEST(KernelChoice, the_fastest_set_that_a_cpu_has_all_of_is_last) {
  EXPECT_EQ(names_for({}), Names({"plain"}));
  EXPECT_EQ(names_for({.has_avx2 = true}), Names({"plain", "avx2"}));
  EXPECT_EQ(names_for({.has_avx2 = true, .has_avx512 = true}), Names({"plain", "avx2", "avx512"}));
  EXPECT_EQ(names_for({.has_avx2 = true, .has_avx512 = true, .has_amx = true}),
            Names({"plain", "avx2", "avx512", "amx"}));
}

TEST(KernelChoice, tiles_are_nothing_without_the_vectors_beside_them) {
  EXPECT_EQ(names_for({.has_avx2 = true, .has_amx = true}), Names({"plain", "avx2"}));
}

TEST(KernelChoice, this_cpu_has_what_is_found_for_it_and_auto_is_the_fastest_of_it) {
  const auto runnable = runnable_kernels();
  ASSERT_FALSE(runnable.empty());
  EXPECT_EQ(runnable.front(), &plain_kernels());
  EXPECT_EQ(find_kernels("auto").value(), runnable.back());
  for (const KernelTable* table : runnable) EXPECT_EQ(find_kernels(table->name).value(), table);
}

TEST(KernelChoice, a_set_that_there_is_not_is_named) {
  EXPECT_EQ(std::string(find_kernels("sse").status().message()),
            "--cpu-kernels sse: there is no such set");
}

TEST(KernelChoice, only_who_computes_without_vectors_is_told_so) {
  for (const KernelTable* table : kernels_for({true, true, true})) {
    EXPECT_EQ(notice_of(*table).empty(), table != &plain_kernels()) << table->name;
  }
  EXPECT_NE(notice_of(plain_kernels()).find("many times slower"), std::string_view::npos);
}

}  // namespace
}  // namespace trireme::worker::cpu
