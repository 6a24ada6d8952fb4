// QuantizedLayers: which linear layers quantization_config says are stored quantised. How a layer
// is stored the checkpoint itself shows; this is to find that it is not what was said.
//
//   gptq                modules_in_block_to_quantize: parts of the names of those that are
//   awq                 modules_to_not_convert: parts of the names of those that are not
//   fp8                 ignored_layers, modules_to_not_convert: likewise
//   compressed-tensors  targets: names, re:EXPRESSION or the class Linear of those that are;
//                       ignore: names or re:EXPRESSION of those that are not
//
// Expressions are Python's, as far as RE2 knows them, which matches in time that grows with the
// name alone: none that looks ahead or back or refers to what it matched, and none too large.
//
// Embeddings, heads, norms and routers are not asked about: tools leave them plain unsaid. Threads:
// const.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/weights/config_fields.h"
#include "worker/weights/quantization_config.h"

namespace re2 {
class RE2;
}

namespace trireme::worker {

enum class LayerStorage : uint8_t {
  kQuantized,
  kPlain,    // Left out.
  kNotSaid,  // No list, as tools for gptq and awq mostly write none; or one that we cannot read.
};

class QuantizedLayers {
 public:
  // `fields` are those of quantization_config. Lists that are none are errors with field and value.
  [[nodiscard]] static StatusOr<QuantizedLayers> read(ConfigFields fields,
                                                      QuantizationMethod method);

  // `layer` is a tensor's name without ".weight".
  [[nodiscard]] LayerStorage storage_of(const std::string& layer) const;

 private:
  using Names = std::vector<std::string>;
  // A name, or what stands behind "re:".
  struct Pattern {
    std::string name;
    std::shared_ptr<const re2::RE2> expression;
  };
  using Patterns = std::vector<Pattern>;

  [[nodiscard]] static Patterns patterns_of(Names names);
  [[nodiscard]] static std::optional<bool> matches_any(std::string_view layer,
                                                       const Patterns& patterns);
  [[nodiscard]] LayerStorage compressed_storage_of(const std::string& layer) const;

  QuantizationMethod method_ = QuantizationMethod::kNone;
  // Of compressed-tensors the patterns, of the others the parts.
  Names wanted_parts_;
  Names left_out_parts_;
  Patterns wanted_;
  Patterns left_out_;
};

}  // namespace trireme::worker
