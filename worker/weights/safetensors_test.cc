// Every lie a safetensors file can tell is refused with a message that names tensor and numbers;
// true files come out as they are.
#include "worker/weights/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "worker/weights/safetensors_header.h"
#include "worker/weights/test_directory.h"

namespace trireme::worker {
namespace {

const std::string kTwo = R"({"__metadata__":{"format":"pt"},)"
                         R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]},)"
                         R"("a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}   )";
constexpr std::string_view kTwoData = "AAAABBBBCCDD";

Status parse(std::string_view header, std::string_view data) {
  const std::string bytes = safetensors_bytes(header, data);
  return parse_safetensors(std::as_bytes(std::span(bytes)), "x.safetensors").status();
}

void expect_refused(std::string_view header, std::string_view data, std::string_view words) {
  const Status status = parse(header, data);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << header;
  const std::string message(status.message());
  EXPECT_NE(message.find(words), std::string::npos) << message;
  EXPECT_EQ(message.find("x.safetensors: "), 0u) << message;
}

std::string one(std::string_view fields) { return absl::StrFormat(R"({"w":{%s}})", fields); }

TEST(Safetensors, gives_tensors_as_written) {
  const TestDirectory directory;
  directory.write("model.safetensors", safetensors_bytes(kTwo, kTwoData));
  const StatusOr<Safetensors> weights = Safetensors::open_directory(directory.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->tensors().size(), 2u);
  EXPECT_EQ(weights->byte_count(), 12u);
  const StatusOr<TensorView> a = weights->require("a", {1, 2});
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->name, "a");
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(std::memcmp(a->bytes.data(), "AAAABBBB", 8), 0);
  EXPECT_EQ(weights->find("b")->bytes.size(), 4u);
  EXPECT_EQ(weights->find("c"), nullptr);
}

TEST(Safetensors, is_read_through_in_pieces_of_the_tensors_that_are_meant) {
  constexpr std::size_t kBytes = 2 * Safetensors::kPieceBytes + 4;
  const TestDirectory directory;
  const std::string header =
      absl::StrFormat(R"({"e.1.a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},)"
                      R"("e.1.b":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]},)"
                      R"("e.11.a":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}})",
                      kBytes, kBytes, kBytes, kBytes + 1, kBytes + 1, kBytes + 2);
  directory.write("model.safetensors", safetensors_bytes(header, std::string(kBytes + 2, 'x')));
  const StatusOr<Safetensors> weights = Safetensors::open_directory(directory.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto pieces_of = [&](std::string_view prefix) {
    int count = 0;
    weights->read_through(prefix, [&] { ++count; });
    return count;
  };
  EXPECT_EQ(pieces_of("e.1."), 3 + 1);
  EXPECT_EQ(pieces_of("e.11."), 1);
  EXPECT_EQ(pieces_of("f"), 0);
}

TEST(Safetensors, wrong_shape_names_file_and_both_shapes) {
  const TestDirectory directory;
  const std::string path = directory.write("model.safetensors", safetensors_bytes(kTwo, kTwoData));
  const StatusOr<Safetensors> weights = Safetensors::open_directory(directory.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(std::string(weights->require("a", {2}).status().message()),
            path + ": tensor \"a\" has shape [1, 2], but config.json makes it [2]");
  EXPECT_EQ(weights->require("zz", {2}).status().code(), StatusCode::kNotFound);
}

TEST(Safetensors, views_outlive_a_move_of_the_owner) {
  const TestDirectory directory;
  directory.write("model.safetensors", safetensors_bytes(kTwo, kTwoData));
  StatusOr<Safetensors> opened = Safetensors::open_directory(directory.path());
  ASSERT_TRUE(opened.ok());
  const TensorView view = *opened->find("a");
  const Safetensors weights = std::move(*opened);
  EXPECT_EQ(view.name, "a");
  EXPECT_EQ(weights.find("a")->bytes.data(), view.bytes.data());
}

TEST(Safetensors, empty_and_scalar_tensors_are_true) {
  EXPECT_TRUE(parse(R"({"e":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]},)"
                    R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                    "ssss")
                  .ok());
  EXPECT_TRUE(parse("{}", "").ok());
}

TEST(Safetensors, header_that_lies_about_its_length_is_refused) {
  for (const std::string_view bytes : {"", "1234567"}) {
    const auto status = parse_safetensors(std::as_bytes(std::span(bytes)), "f").status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  }
  std::string bytes = safetensors_bytes("{}", "");
  bytes[0] = 3;
  auto status = parse_safetensors(std::as_bytes(std::span(bytes)), "f").status();
  EXPECT_EQ(std::string(status.message()), "f: header of 3 bytes reaches beyond the file's 10");
  bytes[7] = 127;
  status = parse_safetensors(std::as_bytes(std::span(bytes)), "f").status();
  EXPECT_NE(std::string(status.message()).find("over the limit of 100000000"), std::string::npos);
}

TEST(Safetensors, bad_json_is_refused) {
  expect_refused("", "", "bad JSON");
  expect_refused("{\"w\":", "", "bad JSON");
  expect_refused("{\"w\xff\":{}}", "", "bad JSON");
  expect_refused("{} {}", "", "bad JSON");
  expect_refused("[]", "", "a list where the format has none");
  expect_refused("3", "", "a number where the format has none");
  expect_refused(R"({"w":3})", "", "has a number where the format has none");
  expect_refused(one(R"("dtype":{}})"), "", "has an object where");
  expect_refused(one(R"("shape":[[1]])"), "", "has a list where");
  expect_refused(one(R"("shape":[-1])"), "", "has a negative number");
  expect_refused(one(R"("shape":[1.5])"), "", "has a fraction");
  expect_refused(one(R"("colour":1)"), "", "unknown field \"colour\"");
  expect_refused(one(R"("dtype":"F32","dtype":"F32")"), "", "has \"dtype\" twice");
  expect_refused(one(R"("dtype":"F32","shape":[1])"), "", "lacks one of");
  expect_refused(one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), "", "lacks one of");
  expect_refused(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,1,2])"), "", "more than two");
  expect_refused(one(R"("shape":[1,1,1,1,1,1,1,1,1])"), "", "more than 8 dimensions");
  expect_refused(std::string(100'000, '['), "", "where the format has none");
}

TEST(Safetensors, unknown_dtype_is_refused_by_name) {
  expect_refused(one(R"("dtype":"F3","shape":[1],"data_offsets":[0,4])"), "aaaa",
                 "tensor \"w\" has the unknown dtype \"F3\"");
}

TEST(Safetensors, offsets_beyond_the_file_are_refused_with_both_numbers) {
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "aaaa",
                 "lies at [0, 8), but the file has 4 bytes");
  expect_refused(one(R"("dtype":"F32","shape":[0],"data_offsets":[4,0])"), "aaaa",
                 "lies at [4, 0)");
  expect_refused(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615])"),
                 "aaaa", "out of range");
}

TEST(Safetensors, size_that_does_not_match_the_shape_is_refused) {
  expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,4])"), "aaaa",
                 "has 4 bytes at [0, 4), but its shape [2, 3] of F32 needs 24");
  expect_refused(one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])"),
                 "aaaa", "needs more than 2^64");
}

TEST(Safetensors, overlaps_and_holes_are_refused) {
  const auto at = [](int a, int b) {
    return absl::StrFormat(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]},)"
                           R"("b":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}})",
                           a, a + 4, b, b + 4);
  };
  EXPECT_TRUE(parse(at(0, 4), "aaaabbbb").ok());
  expect_refused(at(0, 2), "aaaabb", "\"b\" begins at 2 inside tensor \"a\", which ends at 4");
  expect_refused(at(0, 0), "aaaa", "inside tensor");
  expect_refused(at(0, 5), "aaaa.bbbb", "bytes [4, 5) before tensor \"b\" belong to no tensor");
  expect_refused(at(0, 4), "aaaabbbb.", "the last 1 bytes belong to no tensor");
}

TEST(Safetensors, name_that_appears_twice_is_refused) {
  expect_refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                 R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                 "ab", "tensor \"a\" appears twice");
}

TEST(Safetensors, no_truncation_or_flipped_byte_crashes) {
  const std::string bytes = safetensors_bytes(kTwo, kTwoData);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(parse_safetensors(std::as_bytes(std::span(bytes)).first(size), "f").ok()) << size;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string copy = bytes;
      copy[i] = static_cast<char>(copy[i] ^ (1 << bit));
      (void)parse_safetensors(std::as_bytes(std::span(copy)), "f");
    }
  }
}

class Shards : public ::testing::Test {
 protected:
  static std::string shard(std::string_view tensor) {
    return safetensors_bytes(
        absl::StrFormat(R"({"%s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", tensor), "x");
  }
  void write_index(std::string_view map) const {
    directory_.write("model.safetensors.index.json",
                     absl::StrFormat(R"({"metadata":{},"weight_map":%s})", map));
  }
  std::string refusal() const {
    return std::string(Safetensors::open_directory(directory_.path()).status().message());
  }
  void expect_refused(std::string_view words) const {
    EXPECT_NE(refusal().find(words), std::string::npos) << refusal();
  }

  TestDirectory directory_;
};

TEST_F(Shards, index_joins_its_shards) {
  directory_.write("1.safetensors", shard("a"));
  directory_.write("2.safetensors", shard("b"));
  write_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  const StatusOr<Safetensors> weights = Safetensors::open_directory(directory_.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_NE(weights->find("a"), nullptr);
  EXPECT_NE(weights->find("b"), nullptr);
}

TEST_F(Shards, missing_shard_is_named) {
  directory_.write("1.safetensors", shard("a"));
  write_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  expect_refused("2.safetensors cannot be read: No such file");
}

TEST_F(Shards, tensor_in_another_shard_than_the_index_says_is_named) {
  directory_.write("1.safetensors", shard("b"));
  directory_.write("2.safetensors", shard("a"));
  write_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  expect_refused("tensor \"b\" is listed in shard 2.safetensors, but shard 1.safetensors has one");
}

TEST_F(Shards, tensor_that_no_shard_has_is_named) {
  directory_.write("1.safetensors", shard("a"));
  write_index(R"({"a":"1.safetensors","b":"1.safetensors"})");
  expect_refused("tensor \"b\" is listed in shard 1.safetensors, which lacks it");
}

TEST_F(Shards, truncated_shard_is_named) {
  const std::string bytes = shard("a");
  directory_.write("1.safetensors", std::string_view(bytes).substr(0, bytes.size() - 1));
  write_index(R"({"a":"1.safetensors"})");
  expect_refused("1.safetensors: tensor \"a\" lies at [0, 1), but the file has 0 bytes of data");
}

TEST_F(Shards, index_cannot_reach_out_of_its_directory) {
  write_index(R"({"a":"../1.safetensors"})");
  expect_refused("\"../1.safetensors\", which is not a file name");
}

TEST_F(Shards, broken_index_is_refused) {
  write_index("[]");
  expect_refused("has no weight_map");
  directory_.write("model.safetensors.index.json", "{");
  expect_refused("not a JSON object");
}

TEST_F(Shards, directory_without_safetensors_says_what_is_looked_for) {
  directory_.write("pytorch_model.bin", "x");
  expect_refused("has neither model.safetensors nor model.safetensors.index.json");
  expect_refused("convert it to safetensors");
}

}  // namespace
}  // namespace trireme::worker
