// How the flags are stored whose values are more than a number, a word or a switch: each row of the
// table in flag_rows.cc names one of these or reads its field by flag_value.h. A value that does
// not fit is kInvalidArgument; the caller names the flag. Pure; any thread.
#pragma once

#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::flag_store {

[[nodiscard]] Status store_executor(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_policy(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_speculation(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_spec_model(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_runner(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_convert(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_task(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_pooler(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_expert_balancing(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_spec_method(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_spec_tokens(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_hybrid(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_external(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_external_rank(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_dtype(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_kv_cache_dtype(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_cpu_kernels(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_quantization(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_device(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_model_tokens_max(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_load_format(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_data_parallel_backend(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_engine_rank(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_weight_images(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_lockstep(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_expert_mesh(ServeOptions& options, std::string_view text);
[[nodiscard]] Status store_api_server_index(ServeOptions& options, std::string_view text);

}  // namespace trireme::flag_store
