// What DeepSeek-V2 and V3 share: latent attention, and a mixture with shared experts behind some
// dense layers.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "worker/models/decoder_config.h"

namespace trireme::worker {

// routing, dense_layers: what counts where config.json does not say, and how experts are scored.
// What it asks for and cannot be is refused by the field.
[[nodiscard]] StatusOr<DecoderConfig> deepseek_decoder(const ModelConfig& config,
                                                       const Routing& routing,
                                                       uint32_t dense_layers);

// kUnimplemented, naming the field, when it is none of what is `supported`.
[[nodiscard]] Status check_choice(const ModelConfig& config, const char* field,
                                  const std::string& value,
                                  std::initializer_list<std::string_view> supported);

}  // namespace trireme::worker
