// The matrices of quantised checkpoints, as their formats keep them. LAYER is a tensor's name
// without
// ".weight".
//
//   gptq                LAYER.qweight [in · bits / 32][out], qzeros [groups][out · bits / 32],
//                       scales [groups][out], g_idx [in] (needed with desc_act; all 0: in order)
//   awq                 LAYER.qweight [in][out / 8], qzeros [groups][out / 8], scales [groups][out]
//   compressed-tensors  LAYER.weight as int8 or float8, weight_scale [out] or [out][1];
//                       packed: weight_packed [out][in · bits / 32], weight_scale [out][groups],
//                       weight_zero_point [out · bits / 32][groups] (needed where asymmetric),
//                       weight_g_idx [in] (needed with actorder group; all -1: in order)
//   fp8                 LAYER.weight as float8, weight_scale or weight_scale_inv: of one value, one
//                       for each row, or one for each block
//
// On CPUs int8 codes by rows and int4 codes by groups are computed as they are; the others (fp8, 8
// bits in words) are decoded. Scales of activations in the checkpoint (input_scale) are not read:
// rows of activations bring their own. Threads: const.
#pragma once

#include <memory>
#include <string>

#include "common/status.h"
#include "worker/weights/model_config.h"
#include "worker/weights/quantization_config.h"
#include "worker/weights/quantized_matrix.h"
#include "worker/weights/safetensors.h"

namespace trireme::worker {

// Whether the checkpoint keeps this layer quantised.
[[nodiscard]] bool is_quantized(const Safetensors& tensors, const QuantizationConfig& config,
                                const std::string& layer);

// Refuses a layer that the configuration says is quantised and whose weights are plain: they may be
// others than are meant. Names the tensor, its file, the method and what to do.
[[nodiscard]] Status check_is_as_said(const Safetensors& tensors, const ModelConfig& config,
                                      const std::string& layer);

// Errors name the tensor that is missing or has another shape, dtype or value, and both values. The
// tensors outlive the matrix.
[[nodiscard]] StatusOr<std::shared_ptr<const QuantizedMatrix>> open_quantized(
    const Safetensors& tensors, const QuantizationConfig& config, const std::string& layer,
    uint32_t row_count, uint32_t column_count);

}  // namespace trireme::worker
