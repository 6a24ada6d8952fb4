// random_model: writes a model of a known shape with random weights, for a server to load.
//
//   random_model tl11|llama8|qwen05|toy bf16|fp8 DIRECTORY
//
// In bf16: tl11 is TinyLlama 1.1B's, 2.2 GB; llama8 Llama 3 8B's, 16.1 GB; qwen05 Qwen2.5-0.5B's,
// 1.0 GB; toy, for dry runs, 1.7 MB. DIRECTORY is there already. There is no tokenizer: trireme
// serve --tokenizer.
#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

#include "bench/model/random_model.h"

namespace trireme::bench {
namespace {

constexpr char kUsage[] = "usage: random_model tl11|llama8|qwen05|toy bf16|fp8 DIRECTORY\n";
constexpr const ModelShape* kShapes[] = {&kTiny11, &kLlama8, &kQwen05, &kToy};

int write(std::string_view name, std::string_view format, const char* directory) {
  const auto* const found =
      std::ranges::find_if(kShapes, [&](const ModelShape* shape) { return shape->name == name; });
  if (found == std::end(kShapes) || (format != "bf16" && format != "fp8")) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  worker::ThreadPool pool(std::max(1u, std::thread::hardware_concurrency()));
  const Status written = write_random_model(
      **found, format == "fp8" ? WeightFormat::kFp8 : WeightFormat::kBf16, directory, pool);
  if (written.ok()) return 0;
  std::fprintf(stderr, "random_model: %s\n", std::string(written.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  if (argc == 4) return trireme::bench::write(argv[1], argv[2], argv[3]);
  std::fputs(trireme::bench::kUsage, stderr);
  return 2;
}
