#include "common/options/flag_stores.h"

#include <algorithm>
#include <vector>

#include "common/options/expert_balancing.h"
#include "common/options/flag_value.h"
#include "common/options/pooler.h"
#include "common/options/speculation.h"

namespace trireme::flag_store {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

Status choose_balancing(ServeOptions& o, LoadBalancing wanted) {
  LoadBalancing& field = o.parallel.load_balancing;
  if (field != LoadBalancing::kInternal && field != wanted) {
    return error(StatusCode::kInvalidArgument,
                 "--data-parallel-hybrid-lb excludes --data-parallel-external-lb and "
                 "--data-parallel-rank; give one");
  }
  field = wanted;
  return absl::OkStatus();
}

Status read_numbers(std::string_view text, std::vector<int>& numbers) {
  numbers.clear();
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    TRIREME_RETURN_IF_ERROR(flag_value::read(one, numbers.emplace_back()));
  }
  return absl::OkStatus();
}

}  // namespace

Status store_executor(ServeOptions& o, std::string_view text) {
  Executor& executor = o.parallel.executor;
  if (text == "uni") return executor = Executor::kUni, absl::OkStatus();
  if (text == "mp") return executor = Executor::kMp, absl::OkStatus();
  if (text == "sim") return executor = Executor::kSim, absl::OkStatus();
  if (text == "external_launcher") return executor = Executor::kExternalLauncher, absl::OkStatus();
  if (text == "ray")
    return error(kBad, "'ray' is not supported: use mp, uni, external_launcher or sim");
  return error(kBad, "'%s' is not one of mp, uni, external_launcher, sim", text);
}

Status store_policy(ServeOptions& o, std::string_view text) {
  if (text != "fcfs" && text != "priority")
    return error(kBad, "'%s' is not fcfs or priority", text);
  o.scheduler.policy = text == "fcfs" ? SchedulingPolicy::kFcfs : SchedulingPolicy::kPriority;
  return absl::OkStatus();
}

Status store_speculation(ServeOptions& o, std::string_view text) {
  return read_speculation(text, o.scheduler.speculation);
}

Status store_runner(ServeOptions& o, std::string_view text) {
  return read_runner(text, o.model.runner);
}

Status store_convert(ServeOptions& o, std::string_view text) {
  return read_convert(text, o.model.runner);
}

// vLLM's older flag for both.
Status store_task(ServeOptions& o, std::string_view text) {
  if (text == "auto" || text == "generate") return read_runner(text, o.model.runner);
  if (text == "embed" || text == "embedding") return read_convert("embed", o.model.runner);
  return error(kBad, "'%s' is not one of auto, generate, embed", text);
}

Status store_pooler(ServeOptions& o, std::string_view text) {
  return read_pooler(text, o.model.pooler);
}

Status store_expert_balancing(ServeOptions& o, std::string_view text) {
  return read_expert_balancing(text, o.parallel.expert_balancing);
}

Status store_spec_method(ServeOptions& o, std::string_view text) {
  return flag_value::read(text, o.scheduler.speculation.method);
}

Status store_spec_model(ServeOptions& o, std::string_view text) {
  return read_draft_model(text, o.scheduler.speculation);
}

Status store_spec_tokens(ServeOptions& o, std::string_view text) {
  return flag_value::read(text, o.scheduler.speculation.tokens_max);
}

Status store_hybrid(ServeOptions& o, std::string_view text) {
  return text == "true" ? choose_balancing(o, LoadBalancing::kHybrid) : absl::OkStatus();
}

Status store_external(ServeOptions& o, std::string_view text) {
  return text == "true" ? choose_balancing(o, LoadBalancing::kExternal) : absl::OkStatus();
}

Status store_external_rank(ServeOptions& o, std::string_view text) {
  TRIREME_RETURN_IF_ERROR(choose_balancing(o, LoadBalancing::kExternal));
  return flag_value::read(text, o.parallel.data_parallel_rank);
}

Status store_dtype(ServeOptions& o, std::string_view text) {
  constexpr std::string_view kNames[] = {"auto", "bfloat16", "float16", "float32"};
  if (text == "half") text = "float16";
  if (text == "float") text = "float32";
  if (std::find(std::begin(kNames), std::end(kNames), text) == std::end(kNames)) {
    return error(kBad, "'%s' is not one of auto, bfloat16, float16, float32", text);
  }
  o.model.dtype = text;
  return absl::OkStatus();
}

Status store_kv_cache_dtype(ServeOptions& o, std::string_view text) {
  if (text.starts_with("fp8") || text.starts_with("nvfp4")) {
    return error(kBad, "'%s' is not supported: CPUs do not compute in it; int8 is as small", text);
  }
  if (text != "auto" && text != "bfloat16" && text != "int8") {
    return error(kBad, "'%s' is not one of auto, bfloat16, int8", text);
  }
  o.worker.kv_cache_dtype = text;
  return absl::OkStatus();
}

Status store_cpu_kernels(ServeOptions& o, std::string_view text) {
  constexpr std::string_view kNames[] = {"auto", "amx", "avx512", "avx2", "plain"};
  if (std::find(std::begin(kNames), std::end(kNames), text) == std::end(kNames)) {
    return error(kBad, "'%s' is not one of auto, amx, avx512, avx2, plain", text);
  }
  o.worker.cpu_kernels = text;
  return absl::OkStatus();
}

Status store_quantization(ServeOptions& o, std::string_view text) {
  constexpr std::string_view kNames[] = {"fp8",  "gptq", "awq", "compressed-tensors",
                                         "int8", "int4"};
  if (std::find(std::begin(kNames), std::end(kNames), text) == std::end(kNames)) {
    return error(kBad, "'%s' is not one of fp8, gptq, awq, compressed-tensors, int8, int4", text);
  }
  o.model.quantization = text;
  return absl::OkStatus();
}

Status store_device(ServeOptions& o, std::string_view text) {
  DeviceKind& device = o.worker.device;
  if (text == "auto") return device = DeviceKind::kAuto, absl::OkStatus();
  if (text == "cpu") return device = DeviceKind::kCpu, absl::OkStatus();
  if (text == "cuda") return device = DeviceKind::kCuda, absl::OkStatus();
  return error(kBad, "'%s' is not one of auto, cpu, cuda", text);
}

Status store_model_tokens_max(ServeOptions& o, std::string_view text) {
  uint32_t& tokens_max = o.model.model_tokens_max;
  if (text == "auto" || text == "-1") return tokens_max = 0, absl::OkStatus();
  TRIREME_RETURN_IF_ERROR(flag_value::read(text, tokens_max));
  if (tokens_max > 0) return absl::OkStatus();
  return error(kBad, "0 leaves no room for a prompt; auto or -1: what the model allows");
}

Status store_load_format(ServeOptions&, std::string_view text) {
  if (text == "auto" || text == "safetensors") return absl::OkStatus();
  return error(kBad, "'%s' is not supported: only safetensors are read", text);
}

Status store_data_parallel_backend(ServeOptions&, std::string_view text) {
  if (text == "mp") return absl::OkStatus();
  return error(kBad, "'%s' is not supported: ranks are processes (mp)", text);
}

Status store_engine_rank(ServeOptions& o, std::string_view text) {
  o.internal.is_engine_rank = true;
  return flag_value::read(text, o.internal.engine_rank);
}

Status store_weight_images(ServeOptions& o, std::string_view text) {
  return read_numbers(text, o.internal.weight_image_fds);
}

Status store_lockstep(ServeOptions& o, std::string_view text) {
  return read_numbers(text, o.internal.lockstep_fds);
}

Status store_expert_mesh(ServeOptions& o, std::string_view text) {
  return read_numbers(text, o.internal.expert_mesh_fds);
}

Status store_api_server_index(ServeOptions& o, std::string_view text) {
  o.internal.is_api_server = true;
  return flag_value::read(text, o.internal.api_server_index);
}

}  // namespace trireme::flag_store
