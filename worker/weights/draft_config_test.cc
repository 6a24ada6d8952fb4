// Goal: a draft model that cannot go with the model is refused with both names or numbers.
#include "worker/weights/draft_config.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

class DraftConfig : public testing::Test {
 protected:
  DraftConfig() {
    options_.model.model = "big";
    options_.scheduler.speculation.model = "small";
    model_.vocabulary_size = draft_.vocabulary_size = 60;
    model_.positions_max = 64;
    draft_.positions_max = 40;
  }

  ServeOptions options_;
  ModelConfig model_;
  ModelConfig draft_;
};

TEST_F(DraftConfig, sequences_are_as_long_as_the_draft_model_computes_or_as_is_asked) {
  EXPECT_EQ(check_draft_config(options_, model_, draft_).value(), 40U);
  options_.scheduler.speculation.model_tokens_max = 30;
  EXPECT_EQ(check_draft_config(options_, model_, draft_).value(), 30U);
}

TEST_F(DraftConfig, another_vocabulary_is_refused_with_both) {
  for (const uint32_t other : {59U, 61U}) {
    draft_.vocabulary_size = other;
    const Status status = check_draft_config(options_, model_, draft_).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(std::string(status.message()),
              absl::StrFormat("the draft model small has a vocabulary of %d tokens, the model big "
                              "one of 60: a draft model must have the model's own vocabulary",
                              other));
  }
}

TEST_F(DraftConfig, more_tokens_than_it_has_positions_are_refused_with_both) {
  options_.scheduler.speculation.model_tokens_max = 41;
  const Status status = check_draft_config(options_, model_, draft_).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()),
            "max_model_len 41 is more than the draft model's max_position_embeddings 40");
}

}  // namespace
}  // namespace trireme::worker
