#include "bench/model/tile_products.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trireme::bench {
namespace {

// Names of asm/prctl.h that Debian 12's headers do not all have.
constexpr int kRequestStatePermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileDataState = 18;               // XFEATURE_XTILEDATA
constexpr uint32_t kHasTilesAndBf16 = (1U << 24) | (1U << 22);

constexpr uint32_t kRows = 16;
constexpr uint32_t kRowBytes = 64;
constexpr uint32_t kTiles = 8;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

}  // namespace

bool may_multiply_tiles() {
  static const bool may = [] {
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    if ((d & kHasTilesAndBf16) != kHasTilesAndBf16) return false;
    return syscall(SYS_arch_prctl, kRequestStatePermission, kTileDataState) == 0;
  }();
  return may;
}

__attribute__((target("amx-tile,amx-bf16"))) void multiply_tiles(uint32_t steps) {
  TileConfig config;
  for (uint32_t tile = 0; tile < kTiles; ++tile) {
    config.row_bytes[tile] = kRowBytes;
    config.rows[tile] = kRows;
  }
  alignas(64) uint16_t values[kRows * kRowBytes / sizeof(uint16_t)];
  for (uint16_t& value : values) value = 0x3c00;
  // gcc 12 believes that the two read a word of what they are given, and drops the other stores.
  __asm__ volatile("" : : "r"(&config), "r"(values) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, values, kRowBytes);
  _tile_loadd(5, values, kRowBytes);
  _tile_loadd(6, values, kRowBytes);
  _tile_loadd(7, values, kRowBytes);
  for (uint32_t step = 0; step < steps; ++step) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

}  // namespace trireme::bench
