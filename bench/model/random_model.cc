#include "bench/model/random_model.h"

#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/random.h"

namespace trireme::bench {
namespace {

constexpr std::string_view kRoom = "/dev/shm";
constexpr std::string_view kPrefix = "trireme-bench-";

// The header of a safetensors file, tensor after tensor.
class Header {
 public:
  void add(const std::string& name, uint64_t rows, uint64_t columns = 0) {
    const uint64_t count = rows * (columns == 0 ? 1 : columns);
    const std::string shape =
        columns == 0 ? absl::StrFormat("%u", rows) : absl::StrFormat("%u,%u", rows, columns);
    absl::StrAppendFormat(&text_, R"(%s"%s":{"dtype":"BF16","shape":[%s],"data_offsets":[%u,%u]})",
                          text_.empty() ? "{" : ",", name, shape, bytes_, bytes_ + 2 * count);
    bytes_ += 2 * count;
  }
  [[nodiscard]] std::string text() const {
    std::string padded = text_ + "}";
    padded.resize((padded.size() + 63) / 64 * 64 - 8, ' ');
    return padded;
  }
  [[nodiscard]] uint64_t data_bytes() const { return bytes_; }

 private:
  std::string text_;
  uint64_t bytes_ = 0;
};

Header header_of(const ModelShape& shape) {
  Header header;
  const uint32_t kv = shape.kv_heads * shape.head_size();
  header.add("model.embed_tokens.weight", shape.vocabulary, shape.hidden);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    const std::string at = absl::StrFormat("model.layers.%u.", layer);
    header.add(at + "input_layernorm.weight", shape.hidden);
    header.add(at + "post_attention_layernorm.weight", shape.hidden);
    for (const auto& [name, rows] :
         {std::pair{"q", shape.hidden}, std::pair{"k", kv}, std::pair{"v", kv}}) {
      header.add(at + "self_attn." + name + "_proj.weight", rows, shape.hidden);
      if (shape.has_qkv_bias) header.add(at + "self_attn." + name + "_proj.bias", rows);
    }
    header.add(at + "self_attn.o_proj.weight", shape.hidden, shape.hidden);
    header.add(at + "mlp.gate_proj.weight", shape.intermediate, shape.hidden);
    header.add(at + "mlp.up_proj.weight", shape.intermediate, shape.hidden);
    header.add(at + "mlp.down_proj.weight", shape.hidden, shape.intermediate);
  }
  header.add("model.norm.weight", shape.hidden);
  if (!shape.is_tied) header.add("lm_head.weight", shape.vocabulary, shape.hidden);
  return header;
}

// Four bf16 of random sign and mantissa, and of size 2^-7 to 2^-4.
uint64_t random_weights(uint64_t index) {
  constexpr uint64_t kSignAndMantissa = 0x81ff'81ff'81ff'81ff;
  constexpr uint64_t kExponent = 0x3c00'3c00'3c00'3c00;
  return (mix64(index) & kSignAndMantissa) | kExponent;
}

Status write_weights(const std::string& path, const Header& header, worker::ThreadPool& pool) {
  const std::string text = header.text();
  const uint64_t text_bytes = text.size();
  const uint64_t size = 8 + text_bytes + header.data_bytes();
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* mapped = MAP_FAILED;
  if (file >= 0 && ::ftruncate(file, static_cast<off_t>(size)) == 0) {
    mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  if (file >= 0) ::close(file);
  if (mapped == MAP_FAILED) {
    return error(StatusCode::kResourceExhausted, "%s: %s", path, std::strerror(errno));
  }
  auto* bytes = static_cast<std::byte*>(mapped);
  std::memcpy(bytes, &text_bytes, sizeof(text_bytes));
  std::memcpy(bytes + 8, text.data(), text_bytes);
  auto* words = reinterpret_cast<uint64_t*>(bytes + 8 + text_bytes);
  const uint64_t word_count = header.data_bytes() / 8;
  constexpr uint32_t kPieces = 256;
  pool.run(kPieces, [&](uint32_t piece) {
    const uint64_t end = word_count * (piece + 1) / kPieces;
    for (uint64_t i = word_count * piece / kPieces; i < end; ++i) words[i] = random_weights(i);
  });
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

StatusOr<std::unique_ptr<RandomModelDirectory>> RandomModelDirectory::make(
    const ModelShape& shape, worker::ThreadPool& pool) {
  remove_orphans();
  std::string path = absl::StrFormat("%s/%s%d-XXXXXX", kRoom, kPrefix, ::getpid());
  if (::mkdtemp(path.data()) == nullptr) {
    return error(StatusCode::kResourceExhausted, "%s: %s", path, std::strerror(errno));
  }
  std::unique_ptr<RandomModelDirectory> directory(new RandomModelDirectory(path));
  std::ofstream(path + "/config.json") << absl::StrFormat(
      R"({"architectures":["%s"],"vocab_size":%u,"hidden_size":%u,"intermediate_size":%u,)"
      R"("num_hidden_layers":%u,"num_attention_heads":%u,"num_key_value_heads":%u,)"
      R"("head_dim":%u,"hidden_act":"silu","max_position_embeddings":4096,"rms_norm_eps":1e-6,)"
      R"("rope_theta":10000.0,"tie_word_embeddings":%s,"torch_dtype":"bfloat16"})",
      shape.architecture, shape.vocabulary, shape.hidden, shape.intermediate, shape.layers,
      shape.heads, shape.kv_heads, shape.head_size(), shape.is_tied ? "true" : "false");
  TRIREME_RETURN_IF_ERROR(write_weights(path + "/model.safetensors", header_of(shape), pool));
  return directory;
}

RandomModelDirectory::~RandomModelDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace trireme::bench
