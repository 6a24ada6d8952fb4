#include "worker/kernels/cuda/cuda_weights.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "worker/kernels/cpu/source_rows.h"
#include "worker/kernels/cuda/coded_rows.h"
#include "worker/kernels/cuda/not_yet.h"
#include "worker/kernels/element.h"

namespace trireme::worker::cuda {
namespace {

using cpu::SourceRow;

constexpr std::size_t kHalfBytes = std::size_t{8} << 20;

uint16_t half_of(float value, Element element) {
  return element == Element::kBfloat16 ? bfloat16_of(value) : float16_of(value);
}

float in_precision(float value, Element element) {
  if (element == Element::kFloat32) return value;
  const uint16_t half = half_of(value, element);
  return element == Element::kBfloat16 ? float_of_bfloat16(half) : float_of_float16(half);
}

// One row as the device keeps it.
void write_plain(const SourceRow& row, uint32_t columns, Element element, std::byte* to) {
  const std::size_t bytes = columns * element_bytes(element);
  if (row.part == nullptr) {
    std::memset(to, 0, bytes);
    return;
  }
  const MatrixSlice& part = *row.part;
  if (part.quantized == nullptr && part.element == element && part.column_stride == 1) {
    const uint64_t begin = row.row * part.row_stride * element_bytes(element);
    std::memcpy(to, static_cast<const std::byte*>(part.data) + begin, bytes);
    return;
  }
  std::vector<float> values(columns);
  cpu::read_row(row, values);
  if (element == Element::kFloat32) {
    std::memcpy(to, values.data(), bytes);
    return;
  }
  std::vector<uint16_t> halves(columns);
  std::ranges::transform(values, halves.begin(),
                         [&](float value) { return half_of(value, element); });
  std::memcpy(to, halves.data(), bytes);
}

std::vector<float> values_of(const std::vector<MatrixSlice>& parts, Element element, float added) {
  std::vector<float> values;
  for (const MatrixSlice& part : parts) {
    for (uint32_t i = 0; i < part.column_count; ++i) {
      values.push_back(in_precision(read_element(part.data, i, part.element), element) + added);
    }
  }
  return values;
}

}  // namespace

CudaLinear::CudaLinear(DeviceBuffer values, Beside beside, const WeightMatrix& matrix)
    : values_(std::make_shared<const DeviceBuffer>(std::move(values))),
      beside_(std::move(beside)),
      matrix_(matrix) {
  matrix_.data = values_->data();
  matrix_.bias = reinterpret_cast<const float*>(beside_.bias.data());
  matrix_.scales = reinterpret_cast<const float*>(beside_.scales.data());
  matrix_.zeros = reinterpret_cast<const uint16_t*>(beside_.zeros.data());
  matrix_.column_order = reinterpret_cast<const int32_t*>(beside_.column_order.data());
}

StatusOr<WeightUploader> WeightUploader::create(Element element, cpu::OnLoad on_load,
                                                Stream& stream) {
  WeightUploader uploader(element, on_load, stream);
  for (Half& half : uploader.halves_) {
    TRIREME_ASSIGN_OR_RETURN(half.is_free, Event::create());
  }
  return uploader;
}

StatusOr<WeightUploader::Half*> WeightUploader::next_half(std::size_t bytes) {
  Half& half = halves_[next_];
  next_ = 1 - next_;
  TRIREME_RETURN_IF_ERROR(half.is_free.wait());
  if (half.memory.size() < bytes) {
    half.memory = PinnedBuffer();
    TRIREME_ASSIGN_OR_RETURN(half.memory, PinnedBuffer::allocate(bytes, "loading weights"));
  }
  return &half;
}

StatusOr<DeviceBuffer> WeightUploader::upload_rows(uint32_t row_count, std::size_t row_bytes,
                                                   const WriteRow& write_row,
                                                   const std::string& what) {
  const std::size_t half_bytes = std::max(kHalfBytes, row_bytes);
  const auto rows_at_once = static_cast<uint32_t>(half_bytes / std::max<std::size_t>(row_bytes, 1));
  TRIREME_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                           DeviceBuffer::allocate(row_bytes * row_count, what));
  for (uint32_t begin = 0; begin < row_count; begin += rows_at_once) {
    const uint32_t count = std::min(rows_at_once, row_count - begin);
    TRIREME_ASSIGN_OR_RETURN(Half* const half,
                             next_half(std::min(half_bytes, row_bytes * row_count)));
    for (uint32_t i = 0; i < count; ++i) {
      write_row(begin + i, half->memory.data() + i * row_bytes);
    }
    queue_copy(buffer.data() + begin * row_bytes, half->memory.data(), count * row_bytes,
               stream_->queue());
    half->is_free.record(stream_->queue());
  }
  TRIREME_RETURN_IF_ERROR(stream_->wait());
  return buffer;
}

StatusOr<DeviceBuffer> WeightUploader::upload(const std::vector<MatrixSlice>& parts,
                                              uint32_t row_count, const std::string& what) {
  const uint32_t columns = parts.front().column_count;
  return upload_rows(
      row_count, columns * element_bytes(element_),
      [&](uint32_t row, std::byte* to) {
        write_plain(cpu::find_row(parts, row), columns, element_, to);
      },
      what);
}

template <typename Value>
StatusOr<DeviceBuffer> WeightUploader::upload_values(const std::vector<Value>& values,
                                                     const std::string& what) {
  if (values.empty()) return DeviceBuffer();
  const std::size_t bytes = values.size() * sizeof(Value);
  TRIREME_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::allocate(bytes, what));
  queue_copy(buffer.data(), values.data(), bytes, stream_->queue());
  TRIREME_RETURN_IF_ERROR(stream_->wait());
  return buffer;
}

StatusOr<DeviceBuffer> WeightUploader::upload_biases(const LinearSource& source,
                                                     uint32_t out_features) {
  if (source.biases.empty()) return DeviceBuffer();
  std::vector<float> biases = values_of(source.biases, element_, 0.0F);
  biases.resize(out_features);
  return upload_values(biases, "biases");
}

StatusOr<std::unique_ptr<LinearWeight>> WeightUploader::linear(const LinearSource& source) {
  const WeightForm form = form_of(source, on_load_);
  if (form != WeightForm::kPlain) return coded(source, form);
  const WeightMatrix matrix{
      .element = element_,
      .out_features = std::max(source.row_count, cpu::row_count_of(source.parts)),
      .in_features = source.parts.front().column_count};
  TRIREME_ASSIGN_OR_RETURN(DeviceBuffer values,
                           upload(source.parts, matrix.out_features, "weights"));
  CudaLinear::Beside beside;
  TRIREME_ASSIGN_OR_RETURN(beside.bias, upload_biases(source, matrix.out_features));
  return std::make_unique<CudaLinear>(std::move(values), std::move(beside), matrix);
}

StatusOr<std::unique_ptr<LinearWeight>> WeightUploader::coded(const LinearSource& source,
                                                              WeightForm form) {
  TRIREME_ASSIGN_OR_RETURN(CodedRows rows, CodedRows::of(source, form));
  WeightMatrix matrix = rows.shape();
  matrix.element = element_;
  TRIREME_ASSIGN_OR_RETURN(
      DeviceBuffer values,
      upload_rows(
          matrix.out_features, matrix.row_bytes,
          [&](uint32_t row, std::byte* to) { rows.write(row, to); }, "weights"));
  CudaLinear::Beside beside;
  TRIREME_ASSIGN_OR_RETURN(beside.bias, upload_biases(source, matrix.out_features));
  TRIREME_ASSIGN_OR_RETURN(beside.scales, upload_values(rows.scales(), "scales of weights"));
  TRIREME_ASSIGN_OR_RETURN(beside.zeros, upload_values(rows.zeros(), "zeros of weights"));
  TRIREME_ASSIGN_OR_RETURN(beside.column_order,
                           upload_values(rows.column_order(), "the order of columns"));
  return std::make_unique<CudaLinear>(std::move(values), std::move(beside), matrix);
}

StatusOr<std::unique_ptr<VectorWeight>> WeightUploader::vector(const VectorSource& source) {
  const Element element = source.keeps_precision ? Element::kFloat32 : element_;
  TRIREME_ASSIGN_OR_RETURN(
      DeviceBuffer buffer,
      upload_values(values_of(source.parts, element, source.added), "vector weights"));
  return std::make_unique<CudaVector>(std::move(buffer));
}

StatusOr<std::unique_ptr<EmbeddingWeight>> WeightUploader::table(const MatrixSlice& table) {
  if (table.quantized != nullptr) return not_yet("an embedding table that is quantised");
  MatrixSlice stored = table;
  if (table.row_stride == 0) stored.row_count = 1;  // The same row for all.
  TRIREME_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                           upload({stored}, stored.row_count, "an embedding table"));
  auto values = std::make_shared<const DeviceBuffer>(std::move(buffer));
  const TableRows rows{.data = values->data(),
                       .element = element_,
                       .row_count = table.row_count,
                       .row_stride = table.row_stride == 0 ? 0 : table.column_count};
  const uint64_t bytes = values->size();
  return std::make_unique<CudaTable>(std::move(values), rows, bytes);
}

}  // namespace trireme::worker::cuda
