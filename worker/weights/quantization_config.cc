#include "worker/weights/quantization_config.h"

#include <array>
#include <utility>

#include "worker/weights/config_json.h"

namespace trireme::worker {
namespace {

using Json = nlohmann::json;
using Method = QuantizationMethod;

constexpr std::array<std::pair<std::string_view, Method>, 4> kMethods = {{
    {"fp8", Method::kFp8},
    {"gptq", Method::kGptq},
    {"awq", Method::kAwq},
    {"compressed-tensors", Method::kCompressedTensors},
}};

constexpr std::size_t kShownBytesMax = 200;

Status unsupported(const ConfigFields& fields, std::string_view field, std::string_view value,
                   std::string_view supported) {
  return error(StatusCode::kUnimplemented, "%s: %s %s is not supported; supported are %s",
               fields.path(), field, value, supported);
}

ConfigFields child(const ConfigFields& fields, const char* name) {
  const Json* found = fields.object().find(name);
  const Json object = found != nullptr && found->is_object() ? *found : Json::object();
  return {std::make_shared<const ConfigJson>(ConfigJson{object}), fields.path() + ": " + name};
}

// What would change the numbers of a layer in a way that we do not compute.
Status refuse_given(const ConfigFields& fields, const char* name) {
  const Json* found = fields.object().find(name);
  if (found == nullptr || found->empty() || *found == false) return absl::OkStatus();
  return unsupported(fields, name, found->dump().substr(0, kShownBytesMax), "none");
}

// Signed, for -1 means that all of a row is one group.
Status read_group(ConfigFields& fields, QuantizationConfig& config) {
  double size = -1;
  fields.read_any({"q_group_size", "group_size"}, size);
  constexpr double kGroupMax = 1 << 20;
  if (size != -1 && !(size >= 8 && size <= kGroupMax && size == static_cast<uint32_t>(size))) {
    fields.fail(absl::StrFormat("group_size is %g, not -1 or a count in [8, %g]", size, kGroupMax));
  }
  if (size > 0) config.group_columns = static_cast<uint32_t>(size);
  return fields.status();
}

Status read_fp8(ConfigFields& fields, QuantizationConfig& config) {
  config.is_float8 = true;
  std::string format = "e4m3";
  fields.read("fmt", format);
  config.bits = 8;
  std::vector<uint32_t> block;
  fields.read("weight_block_size", block);
  TRIREME_RETURN_IF_ERROR(fields.status());
  if (format != "e4m3" && format != "float8_e4m3fn") {
    return unsupported(fields, "fmt", format, "e4m3");
  }
  if (block.empty()) return absl::OkStatus();
  if (block.size() != 2 || block[0] == 0 || block[1] == 0) {
    return unsupported(fields, "weight_block_size", absl::StrFormat("of %d numbers", block.size()),
                       "two, each above 0");
  }
  config.block_rows = block[0];
  config.block_columns = block[1];
  return absl::OkStatus();
}

Status read_gptq(ConfigFields& fields, QuantizationConfig& config) {
  std::string format = "gptq";
  fields.read("bits", config.bits);
  fields.read("checkpoint_format", format);
  fields.read("desc_act", config.has_group_index);
  TRIREME_RETURN_IF_ERROR(read_group(fields, config));
  TRIREME_RETURN_IF_ERROR(refuse_given(fields, "dynamic"));
  if (config.bits != 4 && config.bits != 8) {
    return unsupported(fields, "bits", std::to_string(config.bits), "4 and 8");
  }
  if (format != "gptq" && format != "gptq_v2") {
    return unsupported(fields, "checkpoint_format", format, "gptq and gptq_v2");
  }
  config.zeros_lack_one = format == "gptq";
  return absl::OkStatus();
}

Status read_awq(ConfigFields& fields, QuantizationConfig& config) {
  std::string version = "gemm";
  fields.read_any({"w_bit", "bits"}, config.bits);
  fields.read("version", version);
  TRIREME_RETURN_IF_ERROR(read_group(fields, config));
  if (config.bits != 4) return unsupported(fields, "bits", std::to_string(config.bits), "4");
  if (version != "gemm" && version != "GEMM") {
    return unsupported(fields, "version", version, "gemm");
  }
  return absl::OkStatus();
}

// Whether weights were quantised in another order than they lie; "static" and "weight" are orders
// of the work alone.
StatusOr<bool> is_ordered_by_group(const ConfigFields& fields) {
  const Json* order = fields.object().find("actorder");
  if (order == nullptr) return false;
  if (order->is_boolean()) return order->get<bool>();
  const std::string name = order->is_string() ? order->get<std::string>() : order->dump();
  if (name == "group" || name == "dynamic") return true;
  if (name == "weight" || name == "static") return false;
  return unsupported(fields, "actorder", name, "group, weight, dynamic, static");
}

// Weights of one group of layers; the groups must agree in what matters to us.
Status read_scheme(ConfigFields fields, QuantizationConfig& config) {
  std::string type = "int";
  std::string strategy = "channel";
  fields.read("num_bits", config.bits);
  fields.read("type", type);
  fields.read("strategy", strategy);
  fields.read("symmetric", config.is_symmetric);
  TRIREME_ASSIGN_OR_RETURN(config.has_group_index, is_ordered_by_group(fields));
  config.group_columns = 0;
  if (strategy == "group") TRIREME_RETURN_IF_ERROR(read_group(fields, config));
  std::vector<uint32_t> block;
  fields.read("block_structure", block);
  TRIREME_RETURN_IF_ERROR(fields.status());
  if (block.size() == 2) {
    config.block_rows = block[0];
    config.block_columns = block[1];
  }
  const std::string what =
      absl::StrFormat("weights of type %s with %u bits, strategy %s%s", type, config.bits, strategy,
                      config.is_symmetric ? "" : ", asymmetric");
  config.is_float8 = type == "float" && config.bits == 8;
  const bool is_int4 = type == "int" && config.bits == 4 && config.is_packed &&
                       (strategy == "group" || strategy == "channel");
  const bool is_int8 = type == "int" && config.bits == 8 && config.is_symmetric &&
                       (config.is_packed || strategy == "channel");
  if (config.is_float8 || is_int4 || is_int8) return absl::OkStatus();
  return unsupported(fields, "scheme", what,
                     "float of 8 bits, int of 8 bits (symmetric, strategy channel), int of 4 bits "
                     "(pack-quantized)");
}

Status read_compressed_tensors(ConfigFields& fields, QuantizationConfig& config) {
  std::string format;
  fields.read("format", format);
  TRIREME_RETURN_IF_ERROR(fields.status());
  config.is_packed = format == "pack-quantized";
  if (!config.is_packed && format != "int-quantized" && format != "float-quantized" &&
      format != "naive-quantized") {
    return unsupported(fields, "format", "\"" + format + "\"",
                       "int-quantized, pack-quantized, float-quantized, naive-quantized");
  }
  TRIREME_RETURN_IF_ERROR(refuse_given(fields, "transform_config"));
  const ConfigFields groups = child(fields, "config_groups");
  QuantizationConfig first;
  for (const auto& [name, group] : groups.object().value.items()) {
    QuantizationConfig read = config;
    TRIREME_RETURN_IF_ERROR(read_scheme(child(child(groups, name.c_str()), "weights"), read));
    if (first.bits == 0) first = read;
    if (first.bits != read.bits || first.is_float8 != read.is_float8 ||
        first.group_columns != read.group_columns || first.is_symmetric != read.is_symmetric ||
        first.has_group_index != read.has_group_index) {
      return unsupported(fields, "config_groups", "with different weights", "those that agree");
    }
  }
  if (first.bits == 0)
    return unsupported(fields, "config_groups", "without a group", "one or more");
  config = first;
  return absl::OkStatus();
}

}  // namespace

std::string_view name_of(QuantizationMethod method) {
  for (const auto& [name, known] : kMethods) {
    if (known == method) return name;
  }
  return "";
}

StatusOr<QuantizationConfig> read_quantization(ConfigFields fields) {
  std::string method = "unknown";
  fields.read("quant_method", method);
  TRIREME_RETURN_IF_ERROR(fields.status());
  QuantizationConfig config;
  for (const auto& [name, known] : kMethods) {
    if (name == method) config.method = known;
  }
  switch (config.method) {
    case Method::kNone:
      return unsupported(fields, "quant_method", "\"" + method + "\"",
                         "fp8, gptq, awq, compressed-tensors");
    case Method::kFp8:
      TRIREME_RETURN_IF_ERROR(read_fp8(fields, config));
      break;
    case Method::kGptq:
      TRIREME_RETURN_IF_ERROR(read_gptq(fields, config));
      break;
    case Method::kAwq:
      TRIREME_RETURN_IF_ERROR(read_awq(fields, config));
      break;
    case Method::kCompressedTensors:
      TRIREME_RETURN_IF_ERROR(read_compressed_tensors(fields, config));
      break;
  }
  return config;
}

}  // namespace trireme::worker
