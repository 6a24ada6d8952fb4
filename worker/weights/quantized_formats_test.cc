// Goal: a quantised layer whose tensors do not fit together is refused by the tensor's name with
// both values, and a float8 is the number that its format says. What whole models mean is
// tests/numerics/quantized_test.cc's matter.
#include "worker/weights/quantized_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "worker/weights/byte_codes.h"
#include "worker/weights/test_directory.h"

namespace trireme::worker {
namespace {

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<uint32_t> shape;
  std::string bytes = {};  // Zeros where it is empty.
};

class QuantizedFormats : public testing::Test {
 protected:
  // What opening a layer of rows_ rows and 32 columns says.
  [[nodiscard]] std::string refusal(const QuantizationConfig& config,
                                    const std::vector<Tensor>& tensors,
                                    const std::string& layer = "a") {
    std::string header;
    std::string data;
    for (const Tensor& tensor : tensors) {
      const auto dtype = dtype_of(tensor.dtype);
      std::string shape;
      std::size_t bytes = size_of(*dtype);
      for (const uint32_t size : tensor.shape) {
        absl::StrAppendFormat(&shape, "%s%d", shape.empty() ? "" : ",", size);
        bytes *= size;
      }
      absl::StrAppendFormat(&header,
                            R"(%s"a.%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})",
                            header.empty() ? "" : ",", tensor.name, tensor.dtype, shape,
                            data.size(), data.size() + bytes);
      std::string own = tensor.bytes;
      own.resize(bytes);
      data += own;
    }
    const std::string path =
        directory_.write("model.safetensors", safetensors_bytes("{" + header + "}", data));
    const auto file = Safetensors::open_file(path);
    EXPECT_TRUE(file.ok()) << file.status();
    const auto matrix = open_quantized(*file, config, layer, rows_, 32);
    last_groups_.clear();
    for (uint32_t column = 0; matrix.ok() && column < 32; column += 16) {
      last_groups_.push_back((*matrix)->group_of(column));
    }
    std::string message(matrix.status().message());
    if (const std::size_t at = message.find("tensor "); at != std::string::npos) {
      message.erase(0, at);
    }
    return message;
  }

  TestDirectory directory_;
  uint32_t rows_ = 16;
  std::vector<uint32_t> last_groups_;  // Of columns 0 and 16.
};

using std::string_literals::operator""s;
using Method = QuantizationMethod;

constexpr QuantizationConfig kGptq{
    .method = Method::kGptq, .bits = 4, .group_columns = 16, .zeros_lack_one = true};
constexpr QuantizationConfig kAwq{.method = Method::kAwq, .bits = 4, .group_columns = 16};
constexpr QuantizationConfig kBytes{.method = Method::kCompressedTensors, .bits = 8};
constexpr QuantizationConfig kPacked{
    .method = Method::kCompressedTensors, .bits = 4, .group_columns = 16, .is_packed = true};

constexpr QuantizationConfig kFloat8{.method = Method::kFp8, .bits = 8, .is_float8 = true};

const Tensor kGptqCodes{"qweight", "I32", {4, 16}};
const Tensor kAwqCodes{"qweight", "I32", {32, 2}};
const Tensor kPackedCodes{"weight_packed", "I32", {16, 4}};
const Tensor kPackedScales{"weight_scale", "BF16", {16, 2}};
const Tensor kZeros{"qzeros", "I32", {2, 2}};
const Tensor kScales{"scales", "F16", {2, 16}};

TEST_F(QuantizedFormats, layers_that_fit_are_opened) {
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales}), "");
  EXPECT_EQ(refusal(kAwq, {{"qweight", "I32", {32, 2}}, kZeros, kScales}), "");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}, {"weight_scale", "F32", {16, 1}}}), "");
  EXPECT_EQ(
      refusal(kPacked, {{"weight_packed", "I32", {16, 4}}, {"weight_scale", "BF16", {16, 2}}}), "");
}

TEST_F(QuantizedFormats, missing_tensors_are_named) {
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros}), "tensor \"a.scales\" is missing in the weights");
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kScales}), "tensor \"a.qzeros\" is missing in the weights");
  EXPECT_EQ(refusal(kAwq, {kZeros, kScales}), "tensor \"a.qweight\" is missing in the weights");
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, kScales}), "tensor \"a.qzeros\" is missing in the weights");
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, kZeros}), "tensor \"a.scales\" is missing in the weights");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}}),
            "tensor \"a.weight_scale\" is missing in the weights");
  EXPECT_EQ(refusal(kFloat8, {{"weight", "F8_E4M3", {16, 32}}}),
            "tensor \"a.weight_scale\" is missing in the weights");
  EXPECT_EQ(refusal(kPacked, {{"weight_packed", "I32", {16, 4}}}),
            "tensor \"a.weight_scale\" is missing in the weights");
}

TEST_F(QuantizedFormats, other_shapes_are_named_with_both) {
  EXPECT_EQ(refusal(kGptq, {{"qweight", "I32", {32, 2}}, kZeros, kScales}),
            "tensor \"a.qweight\" has shape [32, 2], but config.json makes it [4, 16]");
  // A group size of 32 in the file, of 16 in config.json.
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, {"scales", "F16", {1, 16}}}),
            "tensor \"a.scales\" has shape [1, 16], but config.json makes it [2, 16]");
  EXPECT_EQ(refusal(kAwq, {{"qweight", "I32", {4, 16}}, kZeros, kScales}),
            "tensor \"a.qweight\" has shape [4, 16], but config.json makes it [32, 2]");
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, {"qzeros", "I32", {2, 16}}, kScales}),
            "tensor \"a.qzeros\" has shape [2, 16], but config.json makes it [2, 2]");
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales, {"g_idx", "I32", {16}}}),
            "tensor \"a.g_idx\" has shape [16], but config.json makes it [32]");
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, {"qzeros", "I32", {1, 2}}, kScales}),
            "tensor \"a.qzeros\" has shape [1, 2], but config.json makes it [2, 2]");
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, kZeros, {"scales", "F16", {16, 2}}}),
            "tensor \"a.scales\" has shape [16, 2], but config.json makes it [2, 16]");
  EXPECT_EQ(refusal(kPacked, {{"weight_packed", "I32", {4, 16}}, kPackedScales}),
            "tensor \"a.weight_packed\" has shape [4, 16], but config.json makes it [16, 4]");
  // One group a row in the file, two of 16 columns in config.json.
  EXPECT_EQ(refusal(kPacked, {kPackedCodes, {"weight_scale", "BF16", {16, 1}}}),
            "tensor \"a.weight_scale\" has shape [16, 1], but config.json makes it [16, 2]");
  EXPECT_EQ(refusal(kPacked, {kPackedCodes, kPackedScales, {"weight_zero_point", "I32", {16, 2}}}),
            "tensor \"a.weight_zero_point\" has shape [16, 2], but config.json makes it [2, 2]");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {32, 16}}, {"weight_scale", "F32", {16, 1}}}),
            "tensor \"a.weight\" has shape [32, 16], but config.json makes it [16, 32]");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}, {"weight_scale", "F32", {1}}}),
            "tensor \"a.weight_scale\" has shape [1], but config.json makes it [16, 1]")
      << "one scale for all is float8's";
  EXPECT_EQ(refusal(kFloat8, {{"weight", "F8_E4M3", {16, 32}}, {"weight_scale", "F32", {2}}}),
            "tensor \"a.weight_scale\" has shape [2], but config.json makes it [16, 1]");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}, {"weight_scale", "F32", {16, 2}}}),
            "tensor \"a.weight_scale\" has shape [16, 2], but config.json makes it [16, 1]");
  const QuantizationConfig blocks{
      .method = Method::kFp8, .bits = 8, .is_float8 = true, .block_rows = 8, .block_columns = 24};
  EXPECT_EQ(refusal(blocks, {{"weight", "F8_E4M3", {16, 32}}, {"weight_scale_inv", "F32", {2, 1}}}),
            "tensor \"a.weight_scale_inv\" has shape [2, 1], but config.json makes it [2, 2]");
}

TEST_F(QuantizedFormats, rows_that_do_not_fill_words_are_named_with_both_numbers) {
  rows_ = 12;
  const std::string expected = "a: 12 rows do not divide by the 8 codes of a word";
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales}), expected);
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, kZeros, kScales}), expected);
}

TEST_F(QuantizedFormats, other_dtypes_are_named_with_both) {
  EXPECT_EQ(refusal(kGptq, {{"qweight", "F32", {4, 16}}, kZeros, kScales}),
            "tensor \"a.qweight\" has dtype F32, not I32");
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, {"scales", "I16", {2, 16}}}),
            "tensor \"a.scales\" has dtype I16, not F32, BF16 or F16");
  EXPECT_EQ(refusal(kAwq, {kAwqCodes, {"qzeros", "F32", {2, 2}}, kScales}),
            "tensor \"a.qzeros\" has dtype F32, not I32");
  EXPECT_EQ(refusal(kPacked, {{"weight_packed", "I64", {16, 4}}, kPackedScales}),
            "tensor \"a.weight_packed\" has dtype I64, not I32");
  EXPECT_EQ(refusal(kPacked, {kPackedCodes, {"weight_scale", "I8", {16, 2}}}),
            "tensor \"a.weight_scale\" has dtype I8, not F32, BF16 or F16");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I16", {16, 32}}, {"weight_scale", "F32", {16}}}),
            "tensor \"a.weight\" has dtype I16, not I8");
  EXPECT_EQ(refusal(kBytes, {{"weight", "F8_E4M3", {16, 32}}, {"weight_scale", "F32", {16}}}),
            "tensor \"a.weight\" has dtype F8_E4M3, not I8");
  EXPECT_EQ(refusal(kFloat8, {{"weight", "I8", {16, 32}}, {"weight_scale", "F32", {16}}}),
            "tensor \"a.weight\" has dtype I8, not F8_E4M3");
}

TEST_F(QuantizedFormats, a_column_of_a_group_that_does_not_exist_is_named) {
  std::vector<int32_t> groups(32, 1);
  for (const int32_t wrong : {2, -1}) {
    groups[5] = wrong;
    const std::string bytes(reinterpret_cast<const char*>(groups.data()), 128);
    EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales, {"g_idx", "I32", {32}, bytes}}),
              absl::StrFormat("tensor \"a.g_idx\": group %d of column 5, but group_size 16 of 32 "
                              "columns makes 2 groups",
                              wrong));
  }
}

std::string words_of(const std::vector<int32_t>& words) {
  return {reinterpret_cast<const char*>(words.data()), sizeof(int32_t) * words.size()};
}

TEST_F(QuantizedFormats, columns_in_another_order_need_the_tensor_that_lists_it) {
  QuantizationConfig gptq = kGptq, packed = kPacked;
  gptq.has_group_index = packed.has_group_index = true;
  EXPECT_EQ(refusal(gptq, {kGptqCodes, kZeros, kScales}),
            "tensor \"a.g_idx\" is missing in the weights");
  EXPECT_EQ(refusal(packed, {kPackedCodes, kPackedScales}),
            "tensor \"a.weight_g_idx\" is missing in the weights");
  gptq.group_columns = 0;
  EXPECT_EQ(refusal(gptq, {kGptqCodes, {"qzeros", "I32", {1, 2}}, {"scales", "F16", {1, 16}}}), "")
      << "one group has no order";
}

TEST_F(QuantizedFormats, groups_that_are_not_set_are_in_order) {
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales, {"g_idx", "I32", {32}}}), "");
  EXPECT_EQ(last_groups_, std::vector<uint32_t>({0, 1}));
  const std::string unset = words_of(std::vector<int32_t>(32, -1));
  EXPECT_EQ(refusal(kPacked, {kPackedCodes, kPackedScales, {"weight_g_idx", "I32", {32}, unset}}),
            "");
  EXPECT_EQ(last_groups_, std::vector<uint32_t>({0, 1}));
}

TEST_F(QuantizedFormats, a_group_of_too_many_columns_is_named) {
  std::vector<int32_t> groups(32, 0);
  std::fill(groups.begin() + 16, groups.end(), 1);
  groups[31] = 0;
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, kScales, {"g_idx", "I32", {32}, words_of(groups)}}),
            "tensor \"a.g_idx\": group 0 has 17 columns, but group_size is 16");
}

TEST_F(QuantizedFormats, zero_points_are_there_where_the_scheme_has_them_and_only_there) {
  QuantizationConfig asymmetric = kPacked;
  asymmetric.is_symmetric = false;
  EXPECT_EQ(refusal(asymmetric, {kPackedCodes, kPackedScales}),
            "tensor \"a.weight_zero_point\" is missing in the weights");
  const Tensor codes{"weight", "I8", {16, 32}}, scales{"weight_scale", "F32", {16, 1}};
  EXPECT_EQ(refusal(kBytes, {codes, scales, {"weight_zero_point", "I8", {16, 1}}}), "");
  EXPECT_EQ(refusal(kBytes, {codes, scales, {"weight_zero_point", "I8", {16, 1}, "\0\3"s}}),
            "tensor \"a.weight_zero_point\" is not all zero, but config.json says symmetric");
}

TEST_F(QuantizedFormats, scales_of_an_activation_are_named) {
  for (const std::string name : {"act.scales", "gelu_impl.scales", "activation_fn.scales"}) {
    EXPECT_EQ(refusal(kAwq,
                      {{"m.qweight", "I32", {32, 2}},
                       {"m.qzeros", "I32", {2, 2}},
                       {"m.scales", "F16", {2, 16}},
                       {name, "F16", {32}}},
                      "a.m"),
              "tensor \"a." + name + "\": scales of an activation (AWQ) are not supported");
  }
}

TEST_F(QuantizedFormats, scales_that_are_no_numbers_are_named) {
  std::string halves(64, '\0');
  halves.replace(6, 2, "\x00\x7e"s);
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, {"scales", "F16", {2, 16}, halves}}),
            "tensor \"a.scales\": scale 3 is nan, no finite number");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}},
                             {"weight_scale", "F32", {16, 1}, "\0\0\x80\x7f"s}}),
            "tensor \"a.weight_scale\": scale 0 is inf, no finite number");
}

TEST(Float8, is_the_number_of_its_bits) {
  EXPECT_EQ(float_of_float8(0x00), 0.0F);
  EXPECT_EQ(float_of_float8(0x01), 0.001953125F);
  EXPECT_EQ(float_of_float8(0x08), 0.015625F);
  EXPECT_EQ(float_of_float8(0x38), 1.0F);
  EXPECT_EQ(float_of_float8(0xb9), -1.125F);
  EXPECT_EQ(float_of_float8(0x7e), 448.0F);
  EXPECT_TRUE(std::isnan(float_of_float8(0x7f)));
  EXPECT_TRUE(std::isnan(float_of_float8(0xff)));
}

}  // namespace
}  // namespace trireme::worker
