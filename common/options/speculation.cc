#include "common/options/speculation.h"

#include <string>

#include "common/options/flag_value.h"
#include "common/options/json_object.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

Status store_field(const std::string& name, const std::string& value,
                   SpeculationOptions& speculation) {
  if (name == "method") return flag_value::read(value, speculation.method);
  if (name == "num_speculative_tokens") return flag_value::read(value, speculation.tokens_max);
  if (name == "prompt_lookup_min") return flag_value::read(value, speculation.lookup_min);
  if (name == "prompt_lookup_max") return flag_value::read(value, speculation.lookup_max);
  if (name == "model") {
    return error(kBad, "'%s': draft models are not supported, only the method ngram", value);
  }
  return error(kBad,
               "is not supported; there are method, num_speculative_tokens, prompt_lookup_min and "
               "prompt_lookup_max");
}

Status check_lookup(std::string_view name, uint32_t value) {
  constexpr uint32_t kMax = SpeculationOptions::kLookupMax;
  if (value >= 1 && value <= kMax) return absl::OkStatus();
  return error(kBad, "--speculative-config: %s %u is not in 1 to %u", name, value, kMax);
}

}  // namespace

Status read_speculation(std::string_view json, SpeculationOptions& speculation) {
  return read_json_object(json, [&](const std::string& name, const std::string& value) {
    return store_field(name, value, speculation);
  });
}

Status validate_speculation(const SpeculationOptions& speculation) {
  const bool is_asked = !speculation.method.empty() || speculation.tokens_max > 0 ||
                        speculation.lookup_min || speculation.lookup_max;
  if (!is_asked) return absl::OkStatus();
  if (speculation.method.empty()) {
    return error(kBad, "--speculative-config needs a method; supported: ngram");
  }
  if (speculation.method != "ngram") {
    return error(kBad, "--speculative-config: method '%s' is not supported; supported: ngram",
                 speculation.method);
  }
  constexpr uint32_t kMax = SpeculationOptions::kTokensMax;
  if (speculation.tokens_max == 0 || speculation.tokens_max > kMax) {
    return error(kBad, "--speculative-config: num_speculative_tokens %u is not in 1 to %u",
                 speculation.tokens_max, kMax);
  }
  const uint32_t shortest = speculation.shortest();
  const uint32_t longest = speculation.longest();
  TRIREME_RETURN_IF_ERROR(check_lookup("prompt_lookup_min", shortest));
  TRIREME_RETURN_IF_ERROR(check_lookup("prompt_lookup_max", longest));
  if (shortest > longest) {
    return error(kBad, "--speculative-config: prompt_lookup_min %u is above prompt_lookup_max %u",
                 shortest, longest);
  }
  return absl::OkStatus();
}

}  // namespace trireme
