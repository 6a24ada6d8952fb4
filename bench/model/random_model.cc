#include "bench/model/random_model.h"

#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <vector>

#include "common/random.h"

namespace trireme::bench {
namespace {

constexpr std::string_view kRoom = "/dev/shm";
constexpr std::string_view kPrefix = "trireme-bench-";

enum Kind : std::size_t { kBf16, kFloat8, kScale };
constexpr struct {
  const char* dtype;
  uint64_t bytes;
} kKinds[] = {{"BF16", 2}, {"F8_E4M3", 1}, {"F32", 4}};

// The tensors of a safetensors file, those of a kind one after the other.
class Tensors {
 public:
  // No columns: a vector.
  void add(Kind kind, const std::string& name, uint64_t rows, uint64_t columns = 0) {
    kinds_[kind].tensors.push_back({name, rows, columns});
    kinds_[kind].bytes += kKinds[kind].bytes * rows * std::max<uint64_t>(columns, 1);
  }
  void add_matrix(WeightFormat format, const std::string& name, uint64_t rows, uint64_t columns) {
    if (format == WeightFormat::kFp8) add(kScale, name + ".weight_scale", 1);
    add(format == WeightFormat::kFp8 ? kFloat8 : kBf16, name + ".weight", rows, columns);
  }
  [[nodiscard]] std::string header() const {
    std::string text;
    uint64_t at = 0;
    for (const Kind kind : {kBf16, kFloat8, kScale}) {
      for (const Tensor& tensor : kinds_[kind].tensors) append(kind, tensor, at, text);
    }
    text += "}";
    text.resize((text.size() + 63) / 64 * 64 - 8, ' ');
    return text;
  }
  [[nodiscard]] uint64_t bytes(Kind kind) const { return kinds_[kind].bytes; }
  [[nodiscard]] uint64_t bytes() const { return bytes(kBf16) + bytes(kFloat8) + bytes(kScale); }

 private:
  struct Tensor {
    std::string name;
    uint64_t rows;
    uint64_t columns;
  };
  struct OfKind {
    std::vector<Tensor> tensors;
    uint64_t bytes = 0;
  };

  static void append(Kind kind, const Tensor& tensor, uint64_t& at, std::string& text) {
    const uint64_t bytes = kKinds[kind].bytes * tensor.rows * std::max<uint64_t>(tensor.columns, 1);
    const std::string shape = tensor.columns == 0
                                  ? absl::StrFormat("%u", tensor.rows)
                                  : absl::StrFormat("%u,%u", tensor.rows, tensor.columns);
    absl::StrAppendFormat(&text, R"(%s"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%u,%u]})",
                          text.empty() ? "{" : ",", tensor.name, kKinds[kind].dtype, shape, at,
                          at + bytes);
    at += bytes;
  }

  std::array<OfKind, std::size(kKinds)> kinds_;
};

Tensors tensors_of(const ModelShape& shape, WeightFormat format) {
  Tensors tensors;
  const uint32_t kv = shape.kv_heads * shape.head_size();
  tensors.add(kBf16, "model.embed_tokens.weight", shape.vocabulary, shape.hidden);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    const std::string at = absl::StrFormat("model.layers.%u.", layer);
    tensors.add(kBf16, at + "input_layernorm.weight", shape.hidden);
    tensors.add(kBf16, at + "post_attention_layernorm.weight", shape.hidden);
    for (const auto& [name, rows] :
         {std::pair{"q", shape.hidden}, std::pair{"k", kv}, std::pair{"v", kv}}) {
      tensors.add_matrix(format, at + "self_attn." + name + "_proj", rows, shape.hidden);
      if (shape.has_qkv_bias) tensors.add(kBf16, at + "self_attn." + name + "_proj.bias", rows);
    }
    tensors.add_matrix(format, at + "self_attn.o_proj", shape.hidden, shape.hidden);
    tensors.add_matrix(format, at + "mlp.gate_proj", shape.intermediate, shape.hidden);
    tensors.add_matrix(format, at + "mlp.up_proj", shape.intermediate, shape.hidden);
    tensors.add_matrix(format, at + "mlp.down_proj", shape.hidden, shape.intermediate);
  }
  tensors.add(kBf16, "model.norm.weight", shape.hidden);
  if (!shape.is_tied) tensors.add(kBf16, "lm_head.weight", shape.vocabulary, shape.hidden);
  return tensors;
}

// Four bf16 of random sign and mantissa, and of size 2^-7 to 2^-4.
uint64_t random_bf16(uint64_t index) {
  constexpr uint64_t kSignAndMantissa = 0x81ff'81ff'81ff'81ff;
  constexpr uint64_t kExponent = 0x3c00'3c00'3c00'3c00;
  return (mix64(index) & kSignAndMantissa) | kExponent;
}

// Eight e4m3 of random sign and mantissa, and of size 2^-1 to 2; the scale makes them like those.
uint64_t random_float8(uint64_t index) {
  constexpr uint64_t kSignAndMantissa = 0x8f8f'8f8f'8f8f'8f8f;
  constexpr uint64_t kExponent = 0x3030'3030'3030'3030;
  return (mix64(index) & kSignAndMantissa) | kExponent;
}
constexpr float kFloat8Scale = 1.0F / 32;

void fill(std::byte* at, uint64_t bytes, uint64_t (*word_of)(uint64_t), worker::ThreadPool& pool) {
  auto* const words = reinterpret_cast<uint64_t*>(at);
  const uint64_t word_count = bytes / sizeof(uint64_t);
  constexpr uint32_t kPieces = 256;
  pool.run(kPieces, [&](uint32_t piece) {
    const uint64_t end = word_count * (piece + 1) / kPieces;
    for (uint64_t i = word_count * piece / kPieces; i < end; ++i) words[i] = word_of(i);
  });
}

Status write_weights(const std::string& path, const Tensors& tensors, worker::ThreadPool& pool) {
  const std::string text = tensors.header();
  const uint64_t text_bytes = text.size();
  const uint64_t size = 8 + text_bytes + tensors.bytes();
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return error(StatusCode::kResourceExhausted, "%s: %s", path, std::strerror(errno));
  const int failure = ::posix_fallocate(file, 0, static_cast<off_t>(size));
  void* const mapped =
      failure == 0 ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  const int why = failure == 0 ? errno : failure;
  ::close(file);
  if (mapped == MAP_FAILED) {
    return error(StatusCode::kResourceExhausted, "%s: %u bytes: %s", path, size,
                 std::strerror(why));
  }
  auto* bytes = static_cast<std::byte*>(mapped);
  std::memcpy(bytes, &text_bytes, sizeof(text_bytes));
  std::memcpy(bytes + 8, text.data(), text_bytes);
  std::byte* const data = bytes + 8 + text_bytes;
  std::byte* const codes = data + tensors.bytes(kBf16);
  fill(data, tensors.bytes(kBf16), random_bf16, pool);
  fill(codes, tensors.bytes(kFloat8), random_float8, pool);
  std::ranges::fill(std::span(reinterpret_cast<float*>(codes + tensors.bytes(kFloat8)),
                              tensors.bytes(kScale) / sizeof(float)),
                    kFloat8Scale);
  munmap(mapped, size);
  return absl::OkStatus();
}

// Of owners that were killed: their process is in the name.
void remove_orphans() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kRoom, ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const std::string after = name.substr(kPrefix.size());
    pid_t owner = 0;
    if (!absl::SimpleAtoi(after.substr(0, after.find('-')), &owner)) continue;
    if (::kill(owner, 0) == 0 || errno != ESRCH) continue;
    std::filesystem::remove_all(entry.path(), ignored);
  }
}

}  // namespace

uint64_t ModelShape::layer_weights() const {
  const uint64_t attention = uint64_t{2} * hidden * (heads + kv_heads) * head_size();
  return layers * (attention + uint64_t{3} * hidden * intermediate);
}

Status write_random_model(const ModelShape& shape, WeightFormat format,
                          const std::string& directory, worker::ThreadPool& pool) {
  std::ofstream config(directory + "/config.json");
  config << absl::StrFormat(
      R"({"architectures":["%s"],"vocab_size":%u,"hidden_size":%u,"intermediate_size":%u,)"
      R"("num_hidden_layers":%u,"num_attention_heads":%u,"num_key_value_heads":%u,)"
      R"("head_dim":%u,"hidden_act":"silu","max_position_embeddings":4096,"rms_norm_eps":1e-6,)"
      R"("rope_theta":10000.0,"tie_word_embeddings":%s,"torch_dtype":"bfloat16"%s})",
      shape.architecture, shape.vocabulary, shape.hidden, shape.intermediate, shape.layers,
      shape.heads, shape.kv_heads, shape.head_size(), shape.is_tied ? "true" : "false",
      format == WeightFormat::kFp8 ? R"(,"quantization_config":{"quant_method":"fp8"})" : "");
  if (!config.flush()) {
    return error(StatusCode::kResourceExhausted, "%s: cannot write config.json", directory);
  }
  return write_weights(directory + "/model.safetensors", tensors_of(shape, format), pool);
}

StatusOr<std::unique_ptr<RandomModelDirectory>> RandomModelDirectory::make(
    const ModelShape& shape, worker::ThreadPool& pool) {
  remove_orphans();
  std::string path = absl::StrFormat("%s/%s%d-XXXXXX", kRoom, kPrefix, ::getpid());
  if (::mkdtemp(path.data()) == nullptr) {
    return error(StatusCode::kResourceExhausted, "%s: %s", path, std::strerror(errno));
  }
  std::unique_ptr<RandomModelDirectory> directory(new RandomModelDirectory(path));
  TRIREME_RETURN_IF_ERROR(write_random_model(shape, WeightFormat::kBf16, path, pool));
  return directory;
}

RandomModelDirectory::~RandomModelDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace trireme::bench
