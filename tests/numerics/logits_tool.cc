// logits_tool: runs token ids through a model directory and writes the logits of every token.
//
//   logits_tool [--kv-cache-dtype TYPE] [--quantization KIND]
//               MODEL_DIR DTYPE CHUNK_TOKENS OUT_FILE ID...
//
// The prompt goes in chunks of CHUNK_TOKENS (0: all at once); OUT_FILE gets [ids][vocabulary] fp32.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "worker/models/load_model.h"

namespace trireme::worker {
namespace {

struct Arguments {
  std::string model;
  LoadOptions load;
  uint32_t chunk_tokens = 0;
  std::string out;
  std::vector<int32_t> ids;
};

StatusOr<std::vector<float>> compute(const Arguments& arguments) {
  TRIREME_ASSIGN_OR_RETURN(const ModelDirectory directory, ModelDirectory::open(arguments.model));
  SoloCollective solo;
  ThreadPool pool(2);
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                           load_model(directory, WorkerPlace{}, arguments.load, solo, pool, {}));
  const auto count = static_cast<uint32_t>(arguments.ids.size());
  const uint32_t block_count = count / model->kv_shape().block_tokens + 1;
  TRIREME_RETURN_IF_ERROR(model->allocate_kv(block_count));
  std::vector<int32_t> blocks(block_count);
  std::iota(blocks.rbegin(), blocks.rend(), 0);
  std::vector<int32_t> positions(count);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<float> logits(std::size_t{count} * model->vocabulary_size());
  const uint32_t step = arguments.chunk_tokens == 0 ? count : arguments.chunk_tokens;
  for (uint32_t start = 0; start < count; start += step) {
    const uint32_t chunk = std::min(step, count - start);
    std::vector<uint32_t> wanted(chunk);
    std::iota(wanted.begin(), wanted.end(), 0U);
    const ForwardRow row{.token_begin = 0, .token_count = chunk, .start = start, .blocks = blocks};
    const ForwardBatch batch{.tokens = std::span(arguments.ids).subspan(start, chunk),
                             .positions = std::span(positions).subspan(start, chunk),
                             .rows = std::span(&row, 1),
                             .logits_tokens = wanted};
    const auto out = std::span(logits).subspan(std::size_t{start} * model->vocabulary_size(),
                                               std::size_t{chunk} * model->vocabulary_size());
    TRIREME_RETURN_IF_ERROR(model->forward(batch, {}, {}, out));
  }
  return logits;
}

}  // namespace
}  // namespace trireme::worker

int main(int argc, char** argv) {
  trireme::worker::Arguments arguments;
  int at = 1;
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
    const std::string_view flag = argv[at];
    if (flag == "--kv-cache-dtype") arguments.load.kv_cache_dtype = argv[at + 1];
    if (flag == "--quantization") arguments.load.quantization = argv[at + 1];
  }
  if (argc - at < 5) {
    std::fprintf(stderr,
                 "usage: logits_tool [--kv-cache-dtype TYPE] [--quantization KIND] MODEL_DIR DTYPE "
                 "CHUNK_TOKENS OUT_FILE ID...\n");
    return 2;
  }
  arguments.model = argv[at];
  arguments.load.dtype = argv[at + 1];
  arguments.chunk_tokens = static_cast<uint32_t>(std::atoi(argv[at + 2]));
  arguments.out = argv[at + 3];
  for (int i = at + 4; i < argc; ++i) arguments.ids.push_back(std::atoi(argv[i]));
  const auto logits = trireme::worker::compute(arguments);
  if (!logits.ok()) {
    std::fprintf(stderr, "%s\n", std::string(logits.status().message()).c_str());
    return 1;
  }
  std::ofstream file(arguments.out, std::ios::binary);
  file.write(reinterpret_cast<const char*>(logits->data()),
             static_cast<std::streamsize>(logits->size() * sizeof(float)));
  return file.good() ? 0 : 1;
}
