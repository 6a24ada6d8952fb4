#include "worker/weights/model_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "worker/weights/test_directory.h"

namespace trireme::worker {
namespace {

constexpr std::string_view kConfig =
    R"({"architectures":["LlamaForCausalLM"],"vocab_size":512,"hidden_size":64,)"
    R"("intermediate_size":128,"num_hidden_layers":4,"num_attention_heads":8,)"
    R"("max_position_embeddings":2048})";

std::string refusal(const std::string& path) {
  return std::string(ModelDirectory::open(path).status().message());
}

TEST(ModelDirectory, opens_configuration_and_weights) {
  const TestDirectory directory;
  directory.write("config.json", kConfig);
  directory.write(
      "model.safetensors",
      safetensors_bytes(R"({"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "abc"));
  const StatusOr<ModelDirectory> model = ModelDirectory::open(directory.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config().hidden_size, 64u);
  EXPECT_EQ(model->weights().byte_count(), 3u);
}

TEST(ModelDirectory, missing_parts_are_named) {
  const TestDirectory directory;
  EXPECT_EQ(refusal("/no/such/model"), "model directory /no/such/model: No such file or directory");
  EXPECT_EQ(refusal(directory.path()),
            directory.path() + "/config.json cannot be read: No such file or directory");
  directory.write("config.json", kConfig);
  EXPECT_NE(refusal(directory.path()).find("has neither model.safetensors"), std::string::npos);
  EXPECT_EQ(refusal(directory.path() + "/config.json"),
            "model directory " + directory.path() + "/config.json: not a directory");
}

TEST(ModelDirectory, a_pipe_is_refused_and_not_waited_for) {
  const TestDirectory directory;
  const std::string path = directory.path() + "/config.json";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(refusal(directory.path()), path + " is not a regular file");
}

}  // namespace
}  // namespace trireme::worker
