// QuantizationConfig: what quantization_config (compression_config in older checkpoints of
// compressed-tensors) of config.json says about how weights are stored. Which layers shall be is
// quantized_layers.h's matter. What cannot be run is an error that names the field, the value and
// what is supported.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "worker/weights/config_fields.h"

namespace trireme::worker {

enum class QuantizationMethod : uint8_t { kNone, kFp8, kGptq, kAwq, kCompressedTensors };

struct QuantizationConfig {
  QuantizationMethod method = QuantizationMethod::kNone;
  const char* key = "quantization_config";  // Of config.json.
  uint32_t bits = 0;                        // Of a weight's code.
  uint32_t group_columns = 0;               // That share a scale; 0: all of a row.
  // compressed-tensors: codes lie as bytes (int-quantized), not in words (pack-quantized).
  bool is_packed = false;
  // Codes that lie as bytes are F8_E4M3, not I8.
  bool is_float8 = false;
  // compressed-tensors: no zero points; where it is false they must be there.
  bool is_symmetric = true;
  // Groups are not in order (act-order): the group of each column must be there.
  bool has_group_index = false;
  // GPTQ of the first version stores zeros less one.
  bool zeros_lack_one = false;
  // fp8: rows and columns that share a scale (weight_block_size); 0: one scale for all, or each
  // row.
  uint32_t block_rows = 0;
  uint32_t block_columns = 0;
};

// vLLM's name: "fp8", "gptq", "awq", "compressed-tensors"; "" of kNone.
[[nodiscard]] std::string_view name_of(QuantizationMethod method);

// `fields` are those of the object itself.
[[nodiscard]] StatusOr<QuantizationConfig> read_quantization(ConfigFields fields);

}  // namespace trireme::worker
