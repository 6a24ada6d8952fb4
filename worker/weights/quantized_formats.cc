#include "worker/weights/quantized_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "worker/weights/byte_codes.h"
#include "worker/weights/packed_groups.h"

namespace trireme::worker {
namespace {

using Method = QuantizationMethod;
using MatrixPtr = std::shared_ptr<const QuantizedMatrix>;

int64_t up(uint64_t count, uint64_t by) { return static_cast<int64_t>((count + by - 1) / by); }

constexpr uint32_t kNoGroup = ~0U;  // -1

Status wrong_dtype(const TensorView& tensor, std::string_view expected) {
  return error(StatusCode::kInvalidArgument, "tensor \"%s\" has dtype %s, not %s", tensor.name,
               name_of(tensor.dtype), expected);
}

// Finds the tensors of one layer.
class LayerTensors {
 public:
  LayerTensors(const Safetensors& tensors, const QuantizationConfig& config, std::string layer,
               uint32_t row_count, uint32_t column_count)
      : tensors_(tensors),
        config_(config),
        layer_(std::move(layer)),
        rows_(row_count),
        columns_(column_count) {}

  [[nodiscard]] StatusOr<MatrixPtr> open() const {
    if (config_.method == Method::kGptq) return open_gptq();
    if (config_.method == Method::kAwq) return open_awq();
    if (tensors_.find(layer_ + ".weight_packed") != nullptr) return open_packed();
    return open_bytes();
  }

 private:
  [[nodiscard]] uint32_t group_columns() const {
    return config_.group_columns == 0 ? columns_ : config_.group_columns;
  }
  [[nodiscard]] uint32_t group_count() const {
    return static_cast<uint32_t>(up(columns_, group_columns()));
  }
  [[nodiscard]] uint32_t codes_per_word() const { return 32 / config_.bits; }
  [[nodiscard]] PackedGroups groups() const {
    return {.name = layer_,
            .row_count = rows_,
            .column_count = columns_,
            .bits = config_.bits,
            .group_count = group_count(),
            .group_columns = group_columns()};
  }

  [[nodiscard]] StatusOr<StoredWords> words(const char* name,
                                            std::initializer_list<int64_t> shape) const {
    TRIREME_ASSIGN_OR_RETURN(const TensorView tensor, tensors_.require(layer_ + name, shape));
    if (tensor.dtype != DType::kI32 && tensor.dtype != DType::kU32) {
      return wrong_dtype(tensor, "I32");
    }
    return StoredWords(tensor);
  }
  [[nodiscard]] StatusOr<StoredFloats> scales(const char* name,
                                              std::initializer_list<int64_t> shape) const {
    TRIREME_ASSIGN_OR_RETURN(const TensorView tensor, tensors_.require(layer_ + name, shape));
    return as_scales(tensor);
  }
  [[nodiscard]] static StatusOr<StoredFloats> as_scales(const TensorView& tensor) {
    const std::optional<Element> element = float_element(tensor.dtype);
    if (!element) return wrong_dtype(tensor, "F32, BF16 or F16");
    const StoredFloats scales(tensor, *element);
    const uint64_t count = tensor.bytes.size() / size_of(tensor.dtype);
    for (uint64_t i = 0; i < count; ++i) {
      if (std::isfinite(scales[i])) continue;
      return error(StatusCode::kInvalidArgument, "tensor \"%s\": scale %d is %g, no finite number",
                   tensor.name, i, scales[i]);
    }
    return scales;
  }

  // The groups of the columns where they are not simply in order. `unset` in all of them is what
  // tools write for "in order".
  [[nodiscard]] StatusOr<std::vector<uint32_t>> group_index(const char* name,
                                                            uint32_t unset) const {
    const bool is_needed = config_.has_group_index && group_count() > 1;
    if (!is_needed && tensors_.find(layer_ + name) == nullptr) return std::vector<uint32_t>();
    TRIREME_ASSIGN_OR_RETURN(const StoredWords stored, words(name, {columns_}));
    std::vector<uint32_t> groups(columns_);
    for (uint32_t column = 0; column < columns_; ++column) groups[column] = stored[column];
    const auto is_unset = [&](uint32_t group) { return group == unset; };
    if (std::ranges::all_of(groups, is_unset)) groups.clear();
    TRIREME_RETURN_IF_ERROR(check_groups(name, groups));
    bool is_in_order = true;
    for (uint32_t column = 0; column < groups.size(); ++column) {
      is_in_order = is_in_order && groups[column] == column / group_columns();
    }
    if (is_in_order) groups.clear();
    return groups;
  }

  [[nodiscard]] Status check_groups(const char* name, const std::vector<uint32_t>& groups) const {
    std::vector<uint32_t> counts(group_count());
    for (uint32_t column = 0; column < groups.size(); ++column) {
      const uint32_t group = groups[column];
      if (group >= group_count()) {
        return error(
            StatusCode::kInvalidArgument,
            "tensor \"%s%s\": group %d of column %d, but group_size %d of %d columns makes "
            "%d groups",
            layer_, name, static_cast<int32_t>(group), column, group_columns(), columns_,
            group_count());
      }
      ++counts[group];
    }
    const auto largest = std::ranges::max_element(counts);
    if (*largest <= group_columns()) return absl::OkStatus();
    return error(StatusCode::kInvalidArgument,
                 "tensor \"%s%s\": group %d has %d columns, but group_size is %d", layer_, name,
                 largest - counts.begin(), *largest, group_columns());
  }

  // AutoAWQ's ScaledActivation: the layer after it has rows that were divided by these.
  [[nodiscard]] Status refuse_scaled_activation() const {
    constexpr std::array kNames = {"act", "gelu_impl", "activation_fn"};
    const std::string block = layer_.substr(0, layer_.rfind('.') + 1);
    for (const char* name : kNames) {
      const std::string scales = block + name + ".scales";
      if (tensors_.find(scales) == nullptr) continue;
      return error(StatusCode::kUnimplemented,
                   "tensor \"%s\": scales of an activation (AWQ) are not supported", scales);
    }
    return absl::OkStatus();
  }

  // Zero points where the scheme has none.
  [[nodiscard]] Status refuse_zero_points() const {
    const TensorView* zeros = tensors_.find(layer_ + ".weight_zero_point");
    if (zeros == nullptr) return absl::OkStatus();
    const auto is_zero = [](std::byte byte) { return byte == std::byte{}; };
    if (std::ranges::all_of(zeros->bytes, is_zero)) return absl::OkStatus();
    return error(StatusCode::kInvalidArgument,
                 "tensor \"%s\" is not all zero, but config.json says symmetric", zeros->name);
  }

  [[nodiscard]] Status check_divides(const char* what, uint32_t count) const {
    if (count % codes_per_word() == 0) return absl::OkStatus();
    return error(StatusCode::kInvalidArgument, "%s: %d %s do not divide by the %d codes of a word",
                 layer_, count, what, codes_per_word());
  }

  [[nodiscard]] StatusOr<MatrixPtr> open_gptq() const {
    TRIREME_RETURN_IF_ERROR(check_divides("rows", rows_));
    PackedGroups made = groups();
    const int64_t groups_of_rows = group_count();
    TRIREME_ASSIGN_OR_RETURN(made.codes.words,
                             words(".qweight", {up(columns_, codes_per_word()), rows_}));
    made.codes.row_stride = 1;
    made.codes.column_stride = rows_;
    TRIREME_ASSIGN_OR_RETURN(made.scales, scales(".scales", {groups_of_rows, rows_}));
    made.scale_row_stride = 1;
    made.scale_group_stride = rows_;
    const uint32_t row_words = rows_ / codes_per_word();
    TRIREME_ASSIGN_OR_RETURN(made.zeros.words, words(".qzeros", {groups_of_rows, row_words}));
    made.zeros.packs_rows = true;
    made.zeros.row_stride = 1;
    made.zeros.column_stride = row_words;
    made.zero_add = config_.zeros_lack_one ? 1 : 0;
    TRIREME_ASSIGN_OR_RETURN(made.group_of_column, group_index(".g_idx", 0));
    return make_packed_groups(std::move(made));
  }

  [[nodiscard]] StatusOr<MatrixPtr> open_awq() const {
    TRIREME_RETURN_IF_ERROR(refuse_scaled_activation());
    TRIREME_RETURN_IF_ERROR(check_divides("rows", rows_));
    PackedGroups made = groups();
    const int64_t groups_of_rows = group_count();
    const uint32_t row_words = rows_ / codes_per_word();
    TRIREME_ASSIGN_OR_RETURN(made.codes.words, words(".qweight", {columns_, row_words}));
    made.codes.packs_rows = true;
    made.codes.interleaves = true;
    made.codes.row_stride = 1;
    made.codes.column_stride = row_words;
    made.zeros = made.codes;
    TRIREME_ASSIGN_OR_RETURN(made.zeros.words, words(".qzeros", {groups_of_rows, row_words}));
    TRIREME_ASSIGN_OR_RETURN(made.scales, scales(".scales", {groups_of_rows, rows_}));
    made.scale_row_stride = 1;
    made.scale_group_stride = rows_;
    return make_packed_groups(std::move(made));
  }

  [[nodiscard]] StatusOr<MatrixPtr> open_packed() const {
    PackedGroups made = groups();
    const int64_t row_words = up(columns_, codes_per_word());
    TRIREME_ASSIGN_OR_RETURN(made.codes.words, words(".weight_packed", {rows_, row_words}));
    made.codes.row_stride = static_cast<uint64_t>(row_words);
    made.codes.column_stride = 1;
    TRIREME_ASSIGN_OR_RETURN(made.scales, scales(".weight_scale", {rows_, group_count()}));
    made.scale_row_stride = group_count();
    made.scale_group_stride = 1;
    if (!config_.is_symmetric || tensors_.find(layer_ + ".weight_zero_point") != nullptr) {
      TRIREME_ASSIGN_OR_RETURN(
          made.zeros.words,
          words(".weight_zero_point", {up(rows_, codes_per_word()), group_count()}));
      made.zeros.packs_rows = true;
      made.zeros.row_stride = group_count();
      made.zeros.column_stride = 1;
    }
    TRIREME_RETURN_IF_ERROR(check_unpacked_shape());
    TRIREME_ASSIGN_OR_RETURN(made.group_of_column, group_index(".weight_g_idx", kNoGroup));
    return make_packed_groups(std::move(made));
  }

  // Some tools leave it out; the shape is config.json's in any case.
  [[nodiscard]] Status check_unpacked_shape() const {
    const TensorView* shape = tensors_.find(layer_ + ".weight_shape");
    if (shape == nullptr) return absl::OkStatus();
    TRIREME_RETURN_IF_ERROR(tensors_.require(shape->name, {2}).status());
    int64_t sizes[2] = {};
    if (shape->dtype == DType::kI64) {
      std::memcpy(sizes, shape->bytes.data(), sizeof(sizes));
    } else if (shape->dtype == DType::kI32) {
      const StoredWords words(*shape);
      for (uint32_t i = 0; i < 2; ++i) sizes[i] = words[i];
    } else {
      return wrong_dtype(*shape, "I64");
    }
    if (sizes[0] == rows_ && sizes[1] == columns_) return absl::OkStatus();
    return error(StatusCode::kInvalidArgument,
                 "tensor \"%s\" says [%d, %d], but config.json makes the layer [%d, %d]",
                 shape->name, sizes[0], sizes[1], rows_, columns_);
  }

  [[nodiscard]] StatusOr<MatrixPtr> open_bytes() const {
    TRIREME_ASSIGN_OR_RETURN(const TensorView weight,
                             tensors_.require(layer_ + ".weight", {rows_, columns_}));
    ByteCodes made{.name = layer_,
                   .bytes = weight.bytes.data(),
                   .column_count = columns_,
                   .is_float8 = config_.is_float8};
    const DType dtype = config_.is_float8 ? DType::kF8E4M3 : DType::kI8;
    if (weight.dtype != dtype) return wrong_dtype(weight, name_of(dtype));
    TRIREME_RETURN_IF_ERROR(refuse_zero_points());
    const bool is_inverse = tensors_.find(layer_ + ".weight_scale_inv") != nullptr;
    const std::string name = layer_ + (is_inverse ? ".weight_scale_inv" : ".weight_scale");
    const TensorView* scales = tensors_.find(name);
    if (scales == nullptr) return tensors_.require(name, {}).status();
    TRIREME_ASSIGN_OR_RETURN(made.scales, as_scales(*scales));
    TRIREME_RETURN_IF_ERROR(cut_into_blocks(*scales, made));
    return make_byte_codes(std::move(made));
  }

  // By the shape of the scales: one for all, one for each row, or one for each block.
  [[nodiscard]] Status cut_into_blocks(const TensorView& scales, ByteCodes& made) const {
    const std::vector<int64_t>& shape = scales.shape;
    const int64_t count = static_cast<int64_t>(scales.bytes.size() / size_of(scales.dtype));
    made.block_columns = columns_;
    if (config_.block_rows != 0) {
      made.block_rows = config_.block_rows;
      made.block_columns = config_.block_columns;
      made.scales_per_row = static_cast<uint32_t>(up(columns_, made.block_columns));
      return tensors_.require(scales.name, {up(rows_, made.block_rows), made.scales_per_row})
          .status();
    }
    const bool is_vector = shape.size() == 1 || (shape.size() == 2 && shape[1] == 1);
    if (is_vector && count == rows_) return absl::OkStatus();
    if (made.is_float8 && count == 1) {
      made.block_rows = rows_;
      return absl::OkStatus();
    }
    return tensors_.require(scales.name, {rows_, 1}).status();
  }

  const Safetensors& tensors_;
  const QuantizationConfig& config_;
  const std::string layer_;
  const uint32_t rows_;
  const uint32_t columns_;
};

bool are_codes(const TensorView& tensor) {
  if (tensor.name.ends_with(".weight")) return !float_element(tensor.dtype);
  return tensor.name.ends_with(".qweight") || tensor.name.ends_with(".weight_packed");
}

// How config.json says that a layer is plain.
std::string_view leaving_out(Method method) {
  switch (method) {
    case Method::kNone:
      break;
    case Method::kGptq:
      return "take it out of modules_in_block_to_quantize";
    case Method::kAwq:
    case Method::kFp8:
      return "name it in modules_to_not_convert";
    case Method::kCompressedTensors:
      return "name it in ignore";
  }
  return "";
}

}  // namespace

bool is_quantized(const Safetensors& tensors, const QuantizationConfig& config,
                  const std::string& layer) {
  if (config.method == Method::kNone) return false;
  const TensorView* weight = tensors.find(layer + ".weight");
  if (weight != nullptr) return !float_element(weight->dtype);
  return tensors.find(layer + ".qweight") != nullptr ||
         tensors.find(layer + ".weight_packed") != nullptr;
}

Status check_is_as_said(const Safetensors& tensors, const ModelConfig& config,
                        const std::string& layer) {
  const TensorView* weight = tensors.find(layer + ".weight");
  if (weight == nullptr || !float_element(weight->dtype)) return absl::OkStatus();
  for (const char* codes : {".qweight", ".weight_packed"}) {
    const TensorView* quantized = tensors.find(layer + codes);
    if (quantized == nullptr) continue;
    return error(StatusCode::kInvalidArgument,
                 "tensors \"%s\" (%s) and \"%s\" (%s) are the same layer's, plain and quantised; "
                 "remove the one that is left from other weights",
                 weight->name, tensors.file_of(weight->name), quantized->name,
                 tensors.file_of(quantized->name));
  }
  const LayerStorage said = config.quantized_layers.storage_of(layer);
  if (said == LayerStorage::kPlain) return absl::OkStatus();
  const bool are_others_quantized = std::ranges::any_of(tensors.tensors(), are_codes);
  if (said == LayerStorage::kNotSaid && are_others_quantized) return absl::OkStatus();
  const Method method = config.quantization.method;
  const std::string what_to_do =
      are_others_quantized
          ? absl::StrFormat("fetch this file again, or, where the layer is meant to be plain, %s",
                            leaving_out(method))
          : absl::StrFormat(
                "no other is quantised either: fetch the quantised weights, or remove "
                "%s to serve those that are there",
                config.quantization.key);
  return error(StatusCode::kInvalidArgument,
               "%s: tensor \"%s\" is %s, but %s of %s says that it is quantised by %s; %s",
               tensors.file_of(weight->name), weight->name, name_of(weight->dtype),
               config.quantization.key, config.path, name_of(method), what_to_do);
}

StatusOr<MatrixPtr> open_quantized(const Safetensors& tensors, const QuantizationConfig& config,
                                   const std::string& layer, uint32_t row_count,
                                   uint32_t column_count) {
  return LayerTensors(tensors, config, layer, row_count, column_count).open();
}

}  // namespace trireme::worker
