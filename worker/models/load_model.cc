#include "worker/models/load_model.h"

#include <utility>

#include "worker/kernels/cpu/cpu_factory.h"
#include "worker/kernels/cpu/quantized_linear.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

StatusOr<Element> compute_element(const ModelDirectory& directory, const std::string& dtype,
                                  bool quantizes) {
  if (dtype == "bfloat16") return Element::kBfloat16;
  if (dtype == "float32" || dtype == "float" || dtype == "float16" || dtype == "half") {
    return Element::kFloat32;
  }
  if (dtype != "auto") {
    return error(StatusCode::kInvalidArgument,
                 "--dtype %s: expected auto, bfloat16, float16 or float32", dtype);
  }
  if (quantizes) return Element::kBfloat16;
  // What is stored counts, not what config.json says of it.
  for (const TensorView& tensor : directory.weights().tensors()) {
    if (tensor.shape.size() == 2 && tensor.dtype == DType::kBF16) return Element::kBfloat16;
  }
  return Element::kFloat32;
}

StatusOr<Element> kv_element_of(const std::string& kv_cache_dtype, Element element) {
  if (kv_cache_dtype == "auto") return element;
  if (kv_cache_dtype == "bfloat16") return Element::kBfloat16;
  if (kv_cache_dtype == "int8") return Element::kInt8;
  return error(StatusCode::kInvalidArgument, "--kv-cache-dtype %s: expected auto, bfloat16 or int8",
               kv_cache_dtype);
}

StatusOr<cpu::OnLoad> what_on_load(const ModelDirectory& directory, const std::string& wanted) {
  const std::string stored(name_of(directory.config().quantization.method));
  const bool is_made = wanted == "int8" || wanted == "int4";
  if (wanted.empty() || wanted == stored) return cpu::OnLoad::kKeep;
  if (is_made && stored.empty()) {
    return wanted == "int8" ? cpu::OnLoad::kInt8 : cpu::OnLoad::kInt4;
  }
  if (stored.empty()) {
    return error(StatusCode::kInvalidArgument,
                 "--quantization %s: the checkpoint is not quantised (%s has no "
                 "quantization_config); int8 and int4 quantise on load",
                 wanted, directory.config().path);
  }
  return error(StatusCode::kInvalidArgument,
               "--quantization %s: the checkpoint is quantised by %s (%s: %s); leave the flag out",
               wanted, stored, directory.config().path, directory.config().quantization.key);
}

bool quantizes(const ModelDirectory& directory, cpu::OnLoad on_load) {
  return on_load != cpu::OnLoad::kKeep ||
         directory.config().quantization.method != QuantizationMethod::kNone;
}

bool is_floating(DType dtype) {
  switch (dtype) {
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32:
    case DType::kF64:
      return true;
    default:
      return false;
  }
}

}  // namespace

StatusOr<uint64_t> weight_bytes_to_load(const ModelDirectory& directory, const std::string& dtype,
                                        const std::string& quantization, double expert_copies,
                                        bool keeps_float8) {
  TRIREME_ASSIGN_OR_RETURN(const cpu::OnLoad on_load, what_on_load(directory, quantization));
  TRIREME_ASSIGN_OR_RETURN(const Element element,
                           compute_element(directory, dtype, quantizes(directory, on_load)));
  const uint64_t element_bytes = element == Element::kFloat32 ? 4 : 2;
  const uint32_t vocabulary = directory.config().vocabulary_size;
  uint64_t total = 0;
  uint64_t vocabulary_bytes = 0;
  uint32_t vocabulary_count = 0;
  for (const TensorView& tensor : directory.weights().tensors()) {
    // Not of shared ones, "shared_experts".
    const double copies = tensor.name.find(".experts.") == std::string::npos ? 1 : expert_copies;
    const auto stored_bytes = static_cast<uint64_t>(copies * double(tensor.bytes.size()));
    const uint64_t count = stored_bytes / size_of(tensor.dtype);
    const bool is_kept = keeps_float8 && tensor.dtype == DType::kF8E4M3;
    if (is_kept || !is_floating(tensor.dtype)) {
      total += stored_bytes;
    } else if (tensor.shape.size() != 2) {
      total += count * sizeof(float);
    } else if (tensor.shape[0] == vocabulary) {
      vocabulary_bytes = count * (on_load == cpu::OnLoad::kKeep ? element_bytes : 1);
      ++vocabulary_count;
      total += vocabulary_bytes;
    } else if (on_load == cpu::OnLoad::kKeep) {
      total += count * element_bytes;
    } else {
      // A scale of two bytes for each group of 128.
      total += on_load == cpu::OnLoad::kInt8 ? count : count / 2 + count / 64;
    }
  }
  // Beside a head of its own, the embedding is read from the file.
  return vocabulary_count > 1 ? total - vocabulary_bytes : total;
}

StatusOr<std::unique_ptr<Model>> load_model(const ModelDirectory& directory,
                                            const WorkerPlace& place, const LoadOptions& options,
                                            Collective& tensor_parallel, ThreadPool& pool,
                                            const Progress& progress) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFactory factory,
                           find_model_factory(directory.config().architecture));
  TRIREME_ASSIGN_OR_RETURN(const cpu::OnLoad on_load,
                           what_on_load(directory, options.quantization));
  TRIREME_ASSIGN_OR_RETURN(const Element element, compute_element(directory, options.dtype,
                                                                  quantizes(directory, on_load)));
  TRIREME_ASSIGN_OR_RETURN(const Element kv_element,
                           kv_element_of(options.kv_cache_dtype, element));
  const cpu::CpuFactory cpu_factory;
  const DeviceFactory& device_factory = options.device == nullptr ? cpu_factory : *options.device;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Device> device,
                           device_factory.make({.element = element,
                                                .on_load = on_load,
                                                .cpu_kernels = options.cpu_kernels,
                                                .tensor_parallel = tensor_parallel,
                                                .pool = pool,
                                                .weights = options.weights,
                                                .experts = options.experts,
                                                .workers_of_node = options.workers_of_node}));
  return factory({.directory = directory,
                  .place = place,
                  .element = element,
                  .kv_element = kv_element,
                  .block_tokens = options.block_tokens,
                  .device = std::move(device),
                  .progress = progress,
                  .life = options.life,
                  .wants_logits = options.wants_logits,
                  .tokens_max = options.tokens_max,
                  .has_whole_experts = options.experts != nullptr,
                  .expert_home = options.expert_home});
}

}  // namespace trireme::worker
