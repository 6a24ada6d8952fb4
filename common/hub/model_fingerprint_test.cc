// Tests of what tells one model from another.
#include "common/hub/model_fingerprint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "worker/tiny_model_for_test.h"

namespace trireme::hub {
namespace {

class ModelFingerprint : public ::testing::Test {
 protected:
  ModelFingerprint() {
    worker::write_tiny_model(one_, "LlamaForCausalLM");
    worker::write_tiny_model(other_, "LlamaForCausalLM");
  }
  static std::string of(const worker::TestDirectory& directory) {
    const auto text = model_fingerprint(directory.path());
    EXPECT_TRUE(text.ok()) << text.status();
    return text.value_or("");
  }

  worker::TestDirectory one_;
  worker::TestDirectory other_;
};

TEST_F(ModelFingerprint, does_not_depend_on_where_the_model_lies) {
  EXPECT_EQ(of(one_), of(other_));
  EXPECT_EQ(of(one_).substr(0, 16), "LlamaForCausalLM");
}

TEST_F(ModelFingerprint, other_weights_of_the_same_shape_are_another_model) {
  for (const auto& entry : std::filesystem::directory_iterator(other_.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const int last = file.get();
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(last ^ 1));
  }
  EXPECT_NE(of(one_), of(other_));
}

TEST_F(ModelFingerprint, model_that_is_not_there_is_named) {
  const auto text = model_fingerprint("/no/such/model");
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.status().message().find("/no/such/model"), std::string::npos);
}

}  // namespace
}  // namespace trireme::hub
