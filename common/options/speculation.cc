#include "common/options/speculation.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/options/flag_value.h"
#include "common/options/json_object.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

constexpr std::string_view kMethods = "ngram, draft_model";

Status store_field(const std::string& name, const std::string& value,
                   SpeculationOptions& speculation) {
  if (name == "method") return flag_value::read(value, speculation.method);
  if (name == "num_speculative_tokens") return flag_value::read(value, speculation.tokens_max);
  if (name == "prompt_lookup_min") return flag_value::read(value, speculation.lookup_min);
  if (name == "prompt_lookup_max") return flag_value::read(value, speculation.lookup_max);
  if (name == "model") return read_draft_model(value, speculation);
  if (name == "revision") return flag_value::read(value, speculation.revision);
  if (name == "quantization") return flag_value::read(value, speculation.quantization);
  if (name == "max_model_len") return flag_value::read(value, speculation.model_tokens_max);
  if (name == "draft_tensor_parallel_size") {
    return flag_value::read(value, speculation.tensor_parallel_size);
  }
  return error(kBad,
               "is not supported; there are method, num_speculative_tokens, prompt_lookup_min, "
               "prompt_lookup_max, model, revision, quantization, max_model_len and "
               "draft_tensor_parallel_size");
}

Status check_lookup(std::string_view name, uint32_t value) {
  constexpr uint32_t kMax = SpeculationOptions::kLookupMax;
  if (value >= 1 && value <= kMax) return absl::OkStatus();
  return error(kBad, "--speculative-config: %s %u is not in 1 to %u", name, value, kMax);
}

Status check_ngram(const SpeculationOptions& speculation) {
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

Status check_draft_model(const SpeculationOptions& speculation, uint32_t tensor_parallel_size) {
  if (speculation.model.empty()) {
    return error(kBad,
                 "--speculative-config: method draft_model needs a model: a directory or a hub id");
  }
  const uint32_t ranks = speculation.tensor_parallel_size.value_or(tensor_parallel_size);
  if (ranks != 1 && ranks != tensor_parallel_size) {
    return error(kBad,
                 "--speculative-config: draft_tensor_parallel_size %u is neither 1 nor "
                 "--tensor-parallel-size %u",
                 ranks, tensor_parallel_size);
  }
  return absl::OkStatus();
}

struct GivenField {
  std::string_view name;
  std::string_view method;  // That it belongs to.
  bool is_given;
};

std::vector<GivenField> fields_of_methods(const SpeculationOptions& s) {
  return {{"prompt_lookup_min", "ngram", s.lookup_min.has_value()},
          {"prompt_lookup_max", "ngram", s.lookup_max.has_value()},
          {"model", "draft_model", !s.model.empty()},
          {"revision", "draft_model", !s.revision.empty()},
          {"quantization", "draft_model", !s.quantization.empty()},
          {"max_model_len", "draft_model", s.model_tokens_max > 0},
          {"draft_tensor_parallel_size", "draft_model", s.tensor_parallel_size.has_value()}};
}

// Those of the other method would say nothing.
Status check_foreign_fields(const SpeculationOptions& speculation) {
  for (const GivenField& field : fields_of_methods(speculation)) {
    if (!field.is_given || field.method == speculation.method) continue;
    return error(kBad, "--speculative-config: %s does not belong to the method %s", field.name,
                 speculation.method);
  }
  return absl::OkStatus();
}

bool is_asked(const SpeculationOptions& speculation) {
  if (!speculation.method.empty() || speculation.tokens_max > 0) return true;
  const auto fields = fields_of_methods(speculation);
  return std::ranges::any_of(fields, &GivenField::is_given);
}

}  // namespace

Status read_speculation(std::string_view json, SpeculationOptions& speculation) {
  return read_json_object(json, [&](const std::string& name, const std::string& value) {
    return store_field(name, value, speculation);
  });
}

Status read_draft_model(std::string_view text, SpeculationOptions& speculation) {
  // The peer's older way to say the method.
  if (text == "ngram" || text == "[ngram]") return flag_value::read("ngram", speculation.method);
  TRIREME_RETURN_IF_ERROR(flag_value::read(text, speculation.model));
  if (speculation.method.empty()) speculation.method = "draft_model";
  return absl::OkStatus();
}

Status validate_speculation(const SpeculationOptions& speculation, uint32_t tensor_parallel_size) {
  if (!is_asked(speculation)) return absl::OkStatus();
  const std::string& method = speculation.method;
  if (method.empty()) {
    return error(kBad, "--speculative-config needs a method; supported: %s", kMethods);
  }
  if (method != "ngram" && method != "draft_model") {
    return error(kBad, "--speculative-config: method '%s' is not supported; supported: %s", method,
                 kMethods);
  }
  constexpr uint32_t kMax = SpeculationOptions::kTokensMax;
  if (speculation.tokens_max == 0 || speculation.tokens_max > kMax) {
    return error(kBad, "--speculative-config: num_speculative_tokens %u is not in 1 to %u",
                 speculation.tokens_max, kMax);
  }
  TRIREME_RETURN_IF_ERROR(check_foreign_fields(speculation));
  return method == "ngram" ? check_ngram(speculation)
                           : check_draft_model(speculation, tensor_parallel_size);
}

}  // namespace trireme
