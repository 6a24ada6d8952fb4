#include "worker/kernels/cpu/kernel_choice.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <span>

namespace trireme::worker::cpu {

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("bmi2");
}

// Tiles are 8 KiB of state for each thread that uses them: a process has to ask.
bool kernel_grants_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool is_granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return is_granted;
}

bool has_amx() {
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         __builtin_cpu_supports("amx-int8") && kernel_grants_tiles();
}

bool runs(const CpuFeatures& features, const KernelTable& table) {
  if (&table == &amx_kernels()) return features.has_avx512 && features.has_amx;
  if (&table == &avx512_kernels()) return features.has_avx512;
  if (&table == &avx2_kernels()) return features.has_avx2;
  return true;
}

// Tiles are asked for only where they are wanted.
CpuFeatures this_cpu(bool wants_tiles) {
  return {.has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2"),
          .has_avx512 = has_avx512(),
          .has_amx = wants_tiles && has_amx()};
}

std::span<const KernelTable* const> all_kernels() {
  static const std::array<const KernelTable*, 4> tables = {&plain_kernels(), &avx2_kernels(),
                                                           &avx512_kernels(), &amx_kernels()};
  return tables;
}

}  // namespace

std::vector<const KernelTable*> kernels_for(const CpuFeatures& features) {
  std::vector<const KernelTable*> found;
  for (const KernelTable* table : all_kernels()) {
    if (runs(features, *table)) found.push_back(table);
  }
  return found;
}

std::vector<const KernelTable*> runnable_kernels() { return kernels_for(this_cpu(true)); }

const KernelTable& best_kernels() { return *runnable_kernels().back(); }

StatusOr<const KernelTable*> find_kernels(std::string_view name) {
  if (name == "auto") return &best_kernels();
  for (const KernelTable* table : all_kernels()) {
    if (table->name != name) continue;
    if (runs(this_cpu(table == &amx_kernels()), *table)) return table;
    return error(StatusCode::kInvalidArgument,
                 "--cpu-kernels %s: this CPU has not all of its instructions; the best here is %s",
                 name, best_kernels().name);
  }
  return error(StatusCode::kInvalidArgument, "--cpu-kernels %s: there is no such set", name);
}

std::string_view notice_of(const KernelTable& kernels) {
  if (&kernels != &plain_kernels()) return {};
  return "no AVX2, or --cpu-kernels plain: the same model, but many times slower than with vector "
         "instructions";
}

}  // namespace trireme::worker::cpu
