#include "worker/models/load_model.h"

#include "worker/kernels/cpu/cpu_device.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

StatusOr<Element> compute_element(const ModelDirectory& directory, const std::string& dtype) {
  if (dtype == "bfloat16") return Element::kBfloat16;
  if (dtype == "float32" || dtype == "float" || dtype == "float16" || dtype == "half") {
    return Element::kFloat32;
  }
  if (dtype != "auto") {
    return error(StatusCode::kInvalidArgument,
                 "--dtype %s: expected auto, bfloat16, float16 or float32", dtype);
  }
  // What is stored counts, not what config.json says of it.
  for (const TensorView& tensor : directory.weights().tensors()) {
    if (tensor.shape.size() == 2 && tensor.dtype == DType::kBF16) return Element::kBfloat16;
  }
  return Element::kFloat32;
}

}  // namespace

StatusOr<std::unique_ptr<Model>> load_model(const ModelDirectory& directory,
                                            const WorkerPlace& place, const LoadOptions& options,
                                            Collective& tensor_parallel, ThreadPool& pool,
                                            const Progress& progress) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFactory factory,
                           find_model_factory(directory.config().architecture));
  TRIREME_ASSIGN_OR_RETURN(const Element element, compute_element(directory, options.dtype));
  return factory({.directory = directory,
                  .place = place,
                  .element = element,
                  .block_tokens = options.block_tokens,
                  .device = std::make_unique<cpu::CpuDevice>(element, pool, tensor_parallel),
                  .progress = progress,
                  .life = options.life,
                  .wants_logits = options.wants_logits});
}

}  // namespace trireme::worker
