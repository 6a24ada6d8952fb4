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
  // What opening a layer of 16 rows and 32 columns says.
  [[nodiscard]] std::string refusal(const QuantizationConfig& config,
                                    const std::vector<Tensor>& tensors) {
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
    const auto matrix = open_quantized(*file, config, "a", 16, 32);
    std::string message(matrix.status().message());
    if (const std::size_t at = message.find("tensor "); at != std::string::npos) {
      message.erase(0, at);
    }
    return message;
  }

  TestDirectory directory_;
};

using Method = QuantizationMethod;

constexpr QuantizationConfig kGptq{
    .method = Method::kGptq, .bits = 4, .group_columns = 16, .zeros_lack_one = true};
constexpr QuantizationConfig kAwq{.method = Method::kAwq, .bits = 4, .group_columns = 16};
constexpr QuantizationConfig kBytes{.method = Method::kCompressedTensors, .bits = 8};
constexpr QuantizationConfig kPacked{
    .method = Method::kCompressedTensors, .bits = 4, .group_columns = 16, .is_packed = true};

const Tensor kGptqCodes{"qweight", "I32", {4, 16}};
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
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}}),
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
  EXPECT_EQ(refusal(kBytes, {{"weight", "I8", {16, 32}}, {"weight_scale", "F32", {16, 2}}}),
            "tensor \"a.weight_scale\" has shape [16, 2], but config.json makes it [16, 1]");
  const QuantizationConfig blocks{
      .method = Method::kFp8, .bits = 8, .block_rows = 8, .block_columns = 24};
  EXPECT_EQ(refusal(blocks, {{"weight", "F8_E4M3", {16, 32}}, {"weight_scale_inv", "F32", {2, 1}}}),
            "tensor \"a.weight_scale_inv\" has shape [2, 1], but config.json makes it [2, 2]");
}

TEST_F(QuantizedFormats, other_dtypes_are_named_with_both) {
  EXPECT_EQ(refusal(kGptq, {{"qweight", "F32", {4, 16}}, kZeros, kScales}),
            "tensor \"a.qweight\" has dtype F32, not I32");
  EXPECT_EQ(refusal(kGptq, {kGptqCodes, kZeros, {"scales", "I16", {2, 16}}}),
            "tensor \"a.scales\" has dtype I16, not F32, BF16 or F16");
  EXPECT_EQ(refusal(kBytes, {{"weight", "I16", {16, 32}}, {"weight_scale", "F32", {16}}}),
            "tensor \"a.weight\" has dtype I16, not I8 or F8_E4M3");
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
